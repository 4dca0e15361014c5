"""Laws of the report: nothing from elsewhere, nothing half-written, the same figures everywhere."""

import base64
import hashlib
import io
import json
import re
import resource

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from evaluations import (
    FILES,
    MANIFEST,
    SCALE,
    SIDE,
    THRESHOLD,
    USUAL,
    Page,
    decode_jpeg,
    make_evaluation,
    make_gallery,
    make_result,
    read_json,
    report,
    run,
    save_noise,
)
from patchcore_build.data.dataset import TestImage as DatasetImage
from patchcore_build.errors import OutputError
from patchcore_build.evaluation.metrics import BestF1
from patchcore_build.fitting.review import SuspectCard
from patchcore_build.report.cards import MAX_IMAGES, View
from patchcore_build.report.html import render
from patchcore_build.report.image_sheet import examples
from patchcore_build.report.report import write_report
from patchcore_runtime.explain.heatmap import colorize
from patchcore_runtime.files.names import printable, shown
from patchcore_runtime.image.placement import Placement
from patchcore_runtime.result import Result


def _look_up(content, field):
    for key in field.split("."):
        content = content[int(key) if isinstance(content, list) else key]
    return content


def test_every_tag_of_the_page_closes_in_order_and_every_image_decodes(tmp_path):
    page = report(tmp_path)
    images = page.all("img")
    assert len(images) == 3 * 3 + 3 * 2  # good images have no truth to show
    for attributes in (image.attributes for image in images):
        decoded = decode_jpeg(attributes["src"])
        assert decoded.size == (int(attributes["width"]), int(attributes["height"])) == (320, 240)
        assert attributes["alt"].strip()


def test_the_page_refers_to_nothing_outside_itself(tmp_path):
    page = report(tmp_path)
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert (
        re.findall(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"base64,[^\"]*", "", text)) == []
    )
    for element in page.elements:
        attributes = element.attributes
        assert element.tag not in {"link", "iframe", "object", "embed", "base"}
        assert not any(name.startswith("on") for name in attributes)
        assert not {"srcset", "action", "formaction", "data", "poster"} & set(attributes)
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")


def test_the_only_script_that_may_run_is_ours(tmp_path):
    page = report(tmp_path)
    data, script = page.all("script")
    assert data.attributes == {"type": "application/json", "id": "report-data"}
    assert script.attributes == {}
    (policy,) = (
        meta.attributes["content"]
        for meta in page.all("meta", http_equiv="Content-Security-Policy")
    )
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'", "img-src data:", "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
    ]  # fmt: skip


def test_no_image_is_embedded_twice(tmp_path):
    page = report(tmp_path)
    sources = [image.attributes["src"] for image in page.all("img")]
    assert len(sources) == len(set(sources)) == 15
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert text.count(";base64,") == len(sources)


def test_links_and_labels_point_at_ids_that_exist_once(tmp_path):
    page = report(tmp_path)
    ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    pointed = {one.attributes["href"][1:] for one in page.elements if "href" in one.attributes}
    for element in page.elements:
        pointed |= set(element.attributes.get("aria-labelledby", "").split())
        pointed |= set(element.attributes.get("for", "").split())
        for value in element.attributes.values():
            pointed |= set(re.findall(r"url\(#([^)]*)\)", value))
    assert len(pointed) > 12
    assert pointed <= set(ids)


def test_every_control_has_a_label(tmp_path):
    page = report(tmp_path)
    controls = [one for one in page.elements if one.tag in {"input", "select", "button"}]
    assert len(controls) == 2 + 1 + 5 + 2 + len(USUAL) + 3
    for control in controls:
        around = [one.text for one in control.above() if one.tag == "label"]
        words = [control.attributes.get("aria-label", ""), *around]
        if control.tag == "button":
            words.append(control.text)
        assert any(each.strip() for each in words), control.attributes


def test_the_page_is_whole_without_its_script_and_the_controls_wait_for_it(tmp_path):
    page = report(tmp_path)
    assert all(image.is_shown() for image in page.all("img"))
    assert all(table.is_shown() for table in page.all("table"))
    assert len(page.all("table")) == 3
    assert len(page.all("svg")) == 3
    for control in (one for one in page.elements if one.tag in {"input", "select", "button"}):
        in_dialog = any(one.tag == "dialog" for one in control.above())
        assert in_dialog or not control.is_shown()
    assert "open" not in page.by_id("large").attributes
    assert len(page.cards()) == len(USUAL)


def test_figures_in_the_page_are_those_of_reportread_json(tmp_path):
    page = report(tmp_path)
    content = read_json(tmp_path)
    assert len(page.figures) == 5 + 19 + 5 + 3 * 3  # artifact, metrics, verdicts, kinds
    for field, written in page.figures.items():
        for exact, seen in written:
            value = _look_up(content, field)
            assert json.loads(exact) == value, field
            spread = abs(value) * 1e-3 if not seen.endswith("%") else 1e-3
            shown_value = float(seen.rstrip("%")) / (100 if seen.endswith("%") else 1)
            assert abs(shown_value - value) <= spread, field


def test_report_json_holds_the_evaluation_the_artifact_and_the_kinds(tmp_path):
    evaluation, gallery = run(tmp_path)
    write_report(tmp_path / "report", evaluation, gallery, MANIFEST)
    content = read_json(tmp_path)
    plain = json.loads(json.dumps(evaluation.to_dict()))
    assert {name: content[name] for name in plain} == plain
    assert content["artifact"] == {
        "category": "nuts & bolts",
        "recipe": "full-frame",
        "backbone": "scattering",
        "input_height": SIDE,
        "input_width": SIDE,
        "rows": 1234,
        "image_threshold": THRESHOLD,
        "pixel_threshold": SCALE.threshold,
    }
    assert content["kinds"] == [
        {"kind": "good", "images": 3, "flagged": 1, "median_score": 1.5},
        {"kind": "crack", "images": 2, "flagged": 1, "median_score": 2.375},
        {"kind": "stain", "images": 1, "flagged": 1, "median_score": 2.125},
    ]


def test_wrong_verdicts_come_first_then_the_closest_to_the_threshold(tmp_path):
    evaluation, gallery = run(tmp_path)
    images = gallery.images(evaluation)
    assert [(image.scored.name, image.outcome) for image in images] == [
        ("crack/1.png", "missed"),
        ("good/2.png", "false alarm"),
        ("stain/0.png", "found"),
        ("good/1.png", "passed"),
        ("good/0.png", "passed"),
        ("crack/0.png", "found"),
    ]
    write_report(tmp_path / "report", evaluation, gallery, MANIFEST)
    page = Page.read(tmp_path / "report" / "report.html")
    assert page.cards() == [(image.scored.name, image.outcome) for image in images]
    headings = [one.text for one in page.all("h3")]
    assert headings == [image.scored.name for image in images]


def test_a_score_on_the_threshold_is_not_flagged_and_still_sorted_by_its_verdict(tmp_path):
    evaluation, gallery = run(tmp_path, (("good/0.png", 2.0), ("worn/0.png", 2.0)))
    outcomes = [(image.outcome, image.is_right) for image in gallery.images(evaluation)]
    assert outcomes == [("missed", False), ("passed", True)]


def test_names_that_are_markup_are_shown_and_not_obeyed(tmp_path):
    hostile = "<img src=x onerror=alert(1)>\"'&amp;\n\x1b[31m\u202e.png"
    kind = "</td><script>alert(2)"
    problem = f"{hostile}: <b>no mask</b>"
    name = f"{kind}/{hostile}"
    page = report(
        tmp_path / "hostile", (("good/0.png", 1.0), (name, 3.0)), kinds={name: kind},
        problems=(problem,), category="<u>",
    )  # fmt: skip
    harmless = report(
        tmp_path / "harmless", (("good/0.png", 1.0), ("a/0.png", 3.0)),
        problems=("no mask",), category="washers",
    )  # fmt: skip
    structure = [(one.tag, list(one.attributes)) for one in harmless.elements]
    assert [(one.tag, list(one.attributes)) for one in page.elements] == structure
    assert len(page.all("img")) == 2 + 3
    seen = shown(hostile)
    words = "".join(page.words)
    assert f"{kind}/{seen}" in words
    assert f"{seen}: <b>no mask</b>" in words
    assert page.all("title")[0].text == "<u>: test report"
    assert page.all("h1")[0].text == "<u>"
    assert f"Image {kind}/{seen}" in [image.attributes["alt"] for image in page.all("img")]
    assert [one.text for one in page.all("option")][2] == kind  # after "all" and "good"
    text = (tmp_path / "hostile" / "report" / "report.html").read_text(encoding="utf-8")
    assert all(letter.isprintable() or letter == "\n" for letter in text)


@pytest.mark.parametrize(
    "kind",
    [
        "</script><script>alert(1)</script>", "<!--<script>", "]]>", "\"'\\", "\u2028\u2029\x00\n",
        "&lt;&#39;", "{{ 7 * 7 }}{% raw %}", "$x^2$", "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 40,
    ],
)  # fmt: skip
def test_a_kind_never_ends_the_data_of_the_script(tmp_path, kind):
    page = report(tmp_path, USUAL, kinds={"stain/0.png": kind})
    assert page.data()["kinds"] == ["good", *sorted(["crack", kind])]
    assert len(page.all("script")) == 2
    seen = printable(kind)
    assert sum(one.text == seen for one in page.all("option")) == 1
    assert sum(one.text == seen for one in page.all("bdi")) == 2  # in its row and on its card
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert text.count("</script") == 2


def test_file_names_in_a_broken_encoding_are_written_all_the_same(tmp_path):
    broken = b"good/caf\xe9.png".decode("utf-8", "surrogateescape")
    page = report(tmp_path, ((broken, 1.0), ("crack/0.png", 3.0)))
    assert "good/caf\\xe9.png" in page.words
    assert read_json(tmp_path)["images"][0]["name"] == shown(broken)


@pytest.mark.parametrize(
    ("scored", "reason"),
    [
        ((("good/0.png", 1.0), ("good/1.png", 1.5)), "no defects in the test set"),
        ((("crack/0.png", 3.0),), "no good images in the test set"),
    ],
)
def test_figures_that_do_not_exist_say_none_and_why(tmp_path, scored, reason):
    page = report(tmp_path, scored, masks=False, pixel_auroc=None, pixel_share_flagged_good=None)
    assert page.words.count("none") == 6
    assert page.words.count(reason) >= 2
    assert any("no usable masks" in words for words in page.words)
    assert set(page.figures) & {"image_auroc", "pixel_auroc", "image_best_f1.f1"} == set()
    assert not re.search(r"\bnan\b|\bNone\.?\d", "".join(page.words), re.IGNORECASE)
    assert read_json(tmp_path)["image_auroc"] is None


def test_images_without_a_usable_mask_are_shown_with_words_in_its_place(tmp_path):
    page = report(tmp_path, masks=False, pixel_auroc=None)
    assert len(page.all("img")) == 2 * len(USUAL)
    assert page.words.count("no usable mask") == 3
    assert page.words.count("no defect") == 3


def test_a_defect_that_the_crop_hides_is_called_so(tmp_path):
    scored = (("crack/0.png", 1.0),)
    path = tmp_path / "test" / "crack" / "0.png"
    save_noise(path, (40, 80))
    gallery = make_gallery()
    image = DatasetImage(path=path, defect="crack", mask=None)
    gallery.visit(image, make_result(1.0, size=(40, 80)), np.zeros((SIDE, SIDE), np.bool_))
    write_report(tmp_path / "report", make_evaluation(scored), gallery, MANIFEST)
    page = Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))
    assert "defect outside the crop" in page.words
    assert len(page.all("img")) == 2


def test_the_page_is_limited_and_says_so_while_json_names_every_image(tmp_path):
    count = MAX_IMAGES + 3
    scored = tuple((f"good/{n:03d}.png", 1.0 + n / 1000) for n in range(count))
    page = report(tmp_path, scored, size=(8, 8))
    assert len(page.all("h3")) == MAX_IMAGES
    assert any(f"{MAX_IMAGES} of {count} images" in words for words in page.words)
    assert len(read_json(tmp_path)["images"]) == count


@pytest.mark.parametrize("size", [(2000, 1500), (8, 4000), (32, 32), (4000, 8)])
def test_an_image_costs_at_most_60_kb_whatever_its_size(tmp_path, size):
    evaluation, gallery = run(tmp_path, (("crack/0.png", 3.0),), size=size)
    small = gallery.images(evaluation)[0].previews
    assert len(small.photo) + len(small.truth) + len(small.heat) <= 60_000
    assert max(small.width, small.height) == 320
    assert min(small.width, small.height) >= 1


def test_heat_and_truth_lie_where_the_map_and_the_mask_have_them(tmp_path):
    path = tmp_path / "test" / "crack" / "0.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (200, 100), (255, 255, 255)).save(path)
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[0:32, 0:32] = True  # the upper left quarter of the input
    cropped = Placement(
        photo_height=100, photo_width=200, resized_height=64, resized_width=128, top=0, left=64
    )  # the input is the right half of the photograph
    result = make_result(3.0)
    result = Result(**{**vars(result), "anomaly_map": np.where(mask, 9, 0).astype(np.float32)})
    result = Result(**{**vars(result), "placement": cropped})
    gallery = make_gallery()
    gallery.visit(DatasetImage(path=path, defect="crack", mask=None), result, mask)
    small = gallery.images(make_evaluation((("crack/0.png", 3.0),)))[0].previews
    heat = np.asarray(Image.open(io.BytesIO(small.heat))).astype(int)
    truth = np.asarray(Image.open(io.BytesIO(small.truth))).astype(int)
    hot = np.zeros((160, 320), np.bool_)
    hot[:80, 160:240] = True
    hottest = colorize(np.full((1, 1), 4, np.float32), SCALE)[0, 0].astype(int)
    is_hot = np.abs(heat - hottest).max(axis=2) < 50
    assert (is_hot != hot).mean() < 0.03
    is_green = (truth[..., 1] - truth[..., 0]) > 120
    assert 135 < is_green.sum() < 1065
    rows, columns = np.nonzero(is_green)
    assert 75 <= rows.max() <= 86
    assert 152 <= columns.min() <= 162
    assert 236 <= columns.max() <= 246


def test_a_thin_scratch_is_outlined_too(tmp_path):
    evaluation = make_evaluation((("crack/0.png", 3.0),))
    path = tmp_path / "crack" / "0.png"
    path.parent.mkdir()
    Image.new("RGB", (2000, 2000), (128, 128, 128)).save(path)
    mask = np.zeros((512, 512), np.bool_)
    mask[100, 50:400] = True
    place = Placement(
        photo_height=2000, photo_width=2000, resized_height=512, resized_width=512, top=0, left=0
    )
    plain = {"anomaly_map": np.zeros((512, 512), np.float32), "placement": place}
    gallery = make_gallery()
    gallery.visit(
        DatasetImage(path=path, defect="crack", mask=None),
        Result(**{**vars(make_result(3.0)), **plain}),
        mask,
    )
    truth = Image.open(io.BytesIO(gallery.images(evaluation)[0].previews.truth))
    pixels = np.asarray(truth).astype(int)
    assert ((pixels[..., 1] - pixels[..., 0]) > 80).sum() > 400


def test_the_sheet_has_one_row_for_each_kind(tmp_path):
    heights = []
    for number, scored in enumerate((USUAL[:3], USUAL[:5], USUAL)):
        report(tmp_path / str(number), scored)
        with Image.open(tmp_path / str(number) / "report" / "sheet.png") as sheet:
            sheet.load()
            assert sheet.mode == "RGB"
            heights.append(sheet.height)
    assert heights[2] - heights[1] == 180 + 58  # a preview and its line of text
    assert heights[0] < heights[1]


def test_examples_of_a_kind_are_the_median_and_another_most_confusing_one(tmp_path):
    scored = tuple((f"crack/{n}.png", score) for n, score in enumerate((2.5, 9.0, 3.0, 1.0, 4.0)))
    evaluation, gallery = run(tmp_path, scored)
    images = gallery.images(evaluation)
    chosen = [(words, image.scored.score) for words, image in examples(images)]
    assert chosen == [("median", 3.0), ("most confusing", 1.0)]
    alone = [image for image in images if image.scored.score == 1.0]
    assert [words for words, _ in examples(alone)] == ["median"]


def test_the_same_evaluation_gives_the_same_bytes_and_replaces_an_olderreport(tmp_path):
    evaluation, gallery = run(tmp_path / "dataset")
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "report.json").write_text("old")
    write_report(folder, evaluation, gallery, MANIFEST)
    write_report(tmp_path / "new" / "deep", evaluation, gallery, MANIFEST)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "notes.txt"])
    assert sorted(path.name for path in (tmp_path / "new" / "deep").iterdir()) == FILES
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / "new" / "deep" / name).read_bytes()


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path):
    evaluation, gallery = run(tmp_path / "dataset")
    (tmp_path / "taken").write_text("a file")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(OutputError, match=r"taken.*expected a folder.*no report") as refusal:
            write_report(folder, evaluation, gallery, MANIFEST)
        assert "\n" not in str(refusal.value)
    assert (tmp_path / "taken").read_text() == "a file"


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_a_files_place_is_refused_and_nothing_is_half_written(tmp_path, name):
    evaluation, gallery = run(tmp_path / "dataset")
    folder = tmp_path / "report"
    (folder / name).mkdir(parents=True)
    with pytest.raises(OutputError, match=f"{name} is a folder"):
        write_report(folder, evaluation, gallery, MANIFEST)
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_path_too_long_for_the_disk_leaves_no_new_folder_behind(tmp_path):
    evaluation, gallery = run(tmp_path / "dataset")
    with pytest.raises(OutputError, match=r"(?i)name too long"):
        write_report(tmp_path / "new" / ("x" * 300), evaluation, gallery, MANIFEST)
    assert not (tmp_path / "new").exists()


def test_a_disk_that_fills_up_half_way_leaves_the_older_report_untouched(tmp_path):
    evaluation, gallery = run(tmp_path / "dataset")
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.json").write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # report.json fits
    try:
        with pytest.raises(OutputError, match="no report was kept"):
            write_report(folder, evaluation, gallery, MANIFEST)
        with pytest.raises(OutputError, match="no report was kept"):
            write_report(tmp_path / "new" / "deep", evaluation, gallery, MANIFEST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in folder.iterdir()] == ["report.json"]
    assert (folder / "report.json").read_text() == "old"
    assert not (tmp_path / "new").exists()


def test_a_gallery_of_another_run_is_refused(tmp_path):
    evaluation, gallery = run(tmp_path / "dataset")
    other = make_evaluation((*USUAL[:-1], ("stain/0.png", 9.0)))
    fewer = make_evaluation(USUAL[:-1])
    for wrong, visited in ((evaluation, make_gallery()), (other, gallery), (fewer, gallery)):
        with pytest.raises(ValueError, match="new Gallery"):
            write_report(tmp_path / "report", wrong, visited, MANIFEST)
    assert not (tmp_path / "report").exists()


def test_an_artifact_of_another_category_is_pointed_out(tmp_path):
    page = report(tmp_path, category="washers")
    assert any("was built for" in words for words in page.words)
    assert "nuts & bolts" in page.words


def test_a_figure_of_zero_is_a_figure(tmp_path):
    page = report(tmp_path, pixel_share_flagged_good=0.0, pixel_auroc=0.0)
    assert page.figures["pixel_share_flagged_good"] == [("0.0", "0.0%")]
    assert page.figures["pixel_auroc"] == [("0.0", "0.0000")] * 2  # a headline, too
    assert "none" not in page.words


def test_best_f1_says_that_its_threshold_was_chosen_on_the_test_set(tmp_path):
    page = report(tmp_path, image_best_f1=BestF1(f1=0.75, threshold=2.125))
    assert page.figures["image_best_f1.f1"] == [("0.75", "0.7500")] * 2  # a headline, too
    assert any("chosen on the test set" in words for words in page.words)


def test_names_on_the_page_of_suspects_are_shown_and_not_obeyed():
    hostile = "</bdi><script>alert(1)</script>\"'&lt;\n.png"
    pages = []
    for name in (hostile, "000.png"):
        view = View(caption="image", alt=f"Image {name}", uri="data:image/jpeg;base64,", instead="")
        card = SuspectCard(
            name=name, score=0.1, is_dropped=True, width=8, height=8, views=(view, view)
        )
        text = render("suspects.html.j2", suspects=[card], count=5, dropped=1, median=0.05)
        pages.append(Page(text))
    structures = [[(one.tag, list(one.attributes)) for one in page.elements] for page in pages]
    assert structures[0] == structures[1]
    assert pages[0].all("script") == []
    assert pages[0].all("bdi")[0].text == printable(hostile)
    assert pages[0].all("img")[1].attributes["alt"] == f"Image {printable(hostile)}"
    (policy,) = pages[0].all("meta", http_equiv="Content-Security-Policy")
    assert "script-src" not in policy.attributes["content"]


def _suspects_page():
    view = View(caption="image", alt="x", uri=None, instead="no defect")
    card = SuspectCard(name="x", score=0.1, is_dropped=False, width=8, height=8, views=(view,))
    return {"suspects": [card], "count": 5, "dropped": 1, "median": 0.05}


@pytest.mark.parametrize("missing", ["suspects", "count", "dropped", "median"])
def test_a_template_without_one_of_its_values_is_refused(missing):
    values = _suspects_page()
    assert "no defect" in render("suspects.html.j2", **values)
    del values[missing]
    with pytest.raises(UndefinedError, match=missing):
        render("suspects.html.j2", **values)


@pytest.mark.parametrize("unknown", ["count", "dropped"])
def test_a_value_of_none_is_refused_and_not_written(unknown):
    with pytest.raises(TypeError, match="value that is None"):
        render("suspects.html.j2", **_suspects_page() | {unknown: None})
