"""Laws of the report: nothing from elsewhere, nothing half-written, the same figures everywhere."""

import base64
import dataclasses
import io
import json
import re
import resource
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from patchcore_build.data.dataset import TestImage as Picture
from patchcore_build.errors import OutputError
from patchcore_build.evaluation.evaluate import Evaluation, ScoredImage
from patchcore_build.evaluation.figures import _reasons
from patchcore_build.evaluation.metrics import BestF1, Curve, auroc, best_f1, confusion, rates
from patchcore_build.report.gallery import Gallery
from patchcore_build.report.image_sheet import examples
from patchcore_build.report.images import MAX_SHOTS
from patchcore_build.report.report import write_report
from patchcore_build.report.score_histogram import bin_scores
from patchcore_runtime.detector import Result
from patchcore_runtime.explain.heatmap import HeatmapScale, colorize
from patchcore_runtime.image.preprocess import Placement

THRESHOLD = 2.0
SCALE = HeatmapScale(low=1.0, threshold=2.0, high=4.0)
SIDE = 64  # of the input
FILES = ["report.html", "report.json", "sheet.png"]
VOID = {"meta", "img", "br", "hr", "link", "input", "wbr", "rect", "path", "stop"}
MANIFEST = SimpleNamespace(
    training=SimpleNamespace(category="nuts & bolts"),
    config={"recipe": "full-frame"},
    features=SimpleNamespace(backbone="scattering"),
    preprocess=SimpleNamespace(height=SIDE, width=SIDE),
    memory_bank=SimpleNamespace(rows=1234),
    calibration=SimpleNamespace(image_threshold=THRESHOLD, pixel_threshold=SCALE.threshold),
)
USUAL = (
    ("good/0.png", 1.0),
    ("good/1.png", 1.5),
    ("good/2.png", 2.5),  # a false alarm
    ("crack/0.png", 3.5),
    ("crack/1.png", 1.25),  # missed, farther than the false alarm
    ("stain/0.png", 2.125),
)


class Page(HTMLParser):
    """Tags, attributes and text of a page; refuses tags that do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words, self.figures = [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Note the tag, and wait for its end unless it has none."""
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag}: an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Note a tag that closes itself."""
        assert tag in VOID
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Close the innermost open tag and no other."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Note text, and the figures by their place in report.json."""
        self.words.append(data)
        if self.open and self.open[-1] == "data" and "data-field" in self.tags[-1][1]:
            attributes = self.tags[-1][1]
            self.figures.setdefault(attributes["data-field"], []).append(
                (attributes["value"], data)
            )

    def all(self, wanted):
        """Attributes of each tag of that name."""
        return [attributes for tag, attributes in self.tags if tag == wanted]


def _photo(path, size, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "PNG")


def _result(score, *, size=(80, 60), peak=3.0):
    """A map that is normal but for a square in the middle; the input shows the whole picture."""
    values = np.full((SIDE, SIDE), 0.5, np.float32)
    values[24:40, 24:40] = peak
    return Result(
        score=score,
        p_value=0.5,
        threshold=THRESHOLD,
        pixel_threshold=SCALE.threshold,
        anomaly_map=values,
        patch_distances=np.zeros((8, 8), np.float32),
        nearest_rows=np.zeros((8, 8), np.int64),
        placement=Placement(
            photo_height=size[1],
            photo_width=size[0],
            resized_height=SIDE,
            resized_width=SIDE,
            top=0,
            left=0,
        ),
    )


def _gallery():
    return Gallery(SimpleNamespace(heatmap_scale=SCALE))


CURVE = Curve(
    protocol="all images",
    false_positive_rates=(0.0, 0.0, 0.1, 0.4, 1.0),
    rates=(0.0, 0.5, 0.8, 0.9, 1.0),
)


def _evaluation(scored, **changes):
    good = np.array([score for name, score in scored if name.startswith("good/")])
    defect = np.array([score for name, score in scored if not name.startswith("good/")])
    both = len(good) > 0 and len(defect) > 0
    figures = {
        "category": "nuts & bolts",
        "images": tuple(
            ScoredImage(
                name=name,
                defect=name.split("/")[0],
                is_anomalous=not name.startswith("good/"),
                score=score,
                map_maximum=score,
                is_flagged=score > THRESHOLD,
            )
            for name, score in scored
        ),
        "image_auroc": auroc(good, defect) if both else None,
        "pixel_auroc": 0.987654321,
        "image_best_f1": best_f1(good, defect) if both else None,
        "image_confusion": confusion(good, defect, THRESHOLD),
        "pixel_threshold": SCALE.threshold,
        "pixel_share_flagged_good": 1 / 3,
        "problems": (),
        "image_average_precision": 0.97 if both else None,
        "image_rates": rates(confusion(good, defect, THRESHOLD)),
        "image_roc": CURVE if both else None,
        "pixel_average_precision": 0.61,
        "pixel_best_f1": BestF1(f1=0.58, threshold=2.5),
        "pixel_rates": rates(confusion(np.array([1.0, 3.0]), np.array([1.5, 4.0]), 2.0)),
        "aupro_030_all_images": 0.93,
        "aupro_005_all_images": 0.71,
        "aupro_030_anomalous_images_only": 0.92,
        "aupro_005_anomalous_images_only": 0.69,
        "pixel_pro": (CURVE, dataclasses.replace(CURVE, protocol="anomalous images only")),
    }
    found = Evaluation(**figures | changes)
    return dataclasses.replace(found, reasons=_reasons(found))


def _run(root, scored=USUAL, *, masks=True, size=(80, 60), **changes):
    """(evaluation, gallery) of drawn pictures with the given scores."""
    gallery = _gallery()
    for seed, (name, score) in enumerate(scored):
        path = root / "test" / name
        _photo(path, size, seed)
        defect = name.split("/")[0]
        mask = np.zeros((SIDE, SIDE), np.bool_)
        mask[20:44, 20:44] = defect != "good"
        picture = Picture(path=path, defect=defect, mask=None)
        gallery.visit(picture, _result(score, size=size), mask if masks else None)
    return _evaluation(scored, **changes), gallery


def _report(folder, scored=USUAL, **how):
    evaluation, gallery = _run(folder / "dataset", scored, **how)
    write_report(folder / "report", evaluation, gallery, MANIFEST)
    return Page((folder / "report" / "report.html").read_text(encoding="utf-8"))


def _json(folder):
    return json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))


def _look_up(content, field):
    for key in field.split("."):
        content = content[int(key) if isinstance(content, list) else key]
    return content


def _jpeg(uri):
    kind, encoded = uri.split(",", 1)
    assert kind == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
    image.load()
    return image


def test_every_tag_of_the_page_closes_in_order_and_every_picture_decodes(tmp_path):
    page = _report(tmp_path)
    images = page.all("img")
    assert len(images) == 3 * 3 + 3 * 2  # good pictures have no truth to show
    for attributes in images:
        decoded = _jpeg(attributes["src"])
        assert decoded.size == (int(attributes["width"]), int(attributes["height"])) == (240, 180)
        assert attributes["alt"].strip()


def test_the_page_refers_to_nothing_outside_itself(tmp_path):
    page = _report(tmp_path)
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert (
        re.findall(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"base64,[^\"]*", "", text)) == []
    )
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")


def test_links_and_labels_point_at_ids_that_exist_once(tmp_path):
    page = _report(tmp_path)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    pointed = {attributes["href"][1:] for attributes in page.all("a")}
    for _, attributes in page.tags:
        pointed |= set(attributes.get("aria-labelledby", "").split())
    assert pointed <= set(ids)


def test_figures_in_the_page_are_those_of_report_json(tmp_path):
    page = _report(tmp_path)
    content = _json(tmp_path)
    assert len(page.figures) == 5 + 19 + 5 + 3 * 3  # artifact, metrics, verdicts, kinds
    for field, written in page.figures.items():
        for exact, shown in written:
            value = _look_up(content, field)
            assert json.loads(exact) == value, field
            spread = abs(value) * 1e-3 if not shown.endswith("%") else 1e-3
            shown_value = float(shown.rstrip("%")) / (100 if shown.endswith("%") else 1)
            assert abs(shown_value - value) <= spread, field


def test_report_json_holds_the_evaluation_the_artifact_and_the_kinds(tmp_path):
    evaluation, gallery = _run(tmp_path)
    write_report(tmp_path / "report", evaluation, gallery, MANIFEST)
    content = _json(tmp_path)
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
        {"kind": "good", "pictures": 3, "flagged": 1, "median_score": 1.5},
        {"kind": "crack", "pictures": 2, "flagged": 1, "median_score": 2.375},
        {"kind": "stain", "pictures": 1, "flagged": 1, "median_score": 2.125},
    ]


def test_wrong_verdicts_come_first_then_the_closest_to_the_threshold(tmp_path):
    evaluation, gallery = _run(tmp_path)
    shots = gallery.shots(evaluation)
    assert [(shot.image.name, shot.outcome) for shot in shots] == [
        ("crack/1.png", "missed"),
        ("good/2.png", "false alarm"),
        ("stain/0.png", "found"),
        ("good/1.png", "passed"),
        ("good/0.png", "passed"),
        ("crack/0.png", "found"),
    ]
    write_report(tmp_path / "report", evaluation, gallery, MANIFEST)
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    listed = re.findall(r"<h3><bdi>(.*?)</bdi></h3>", text)
    assert listed == [shot.image.name for shot in shots]


def test_a_score_on_the_threshold_is_not_flagged_and_still_sorted_by_its_verdict(tmp_path):
    evaluation, gallery = _run(tmp_path, (("good/0.png", 2.0), ("worn/0.png", 2.0)))
    outcomes = [(shot.outcome, shot.is_right) for shot in gallery.shots(evaluation)]
    assert outcomes == [("missed", False), ("passed", True)]


def test_names_that_are_markup_are_shown_and_not_obeyed(tmp_path):
    hostile = "<img src=x onerror=alert(1)>\"'&amp;\n\x1b[31m\u202e.png"
    kind = "</td><script>alert(2)"
    scored = (("good/0.png", 1.0), (f"{kind}/{hostile}", 3.0))
    problem = f"{hostile}: <b>no mask</b>"
    page = _report(tmp_path, scored, problems=(problem,), category="<u>")
    assert {tag for tag, _ in page.tags} & {"script", "b", "u"} == set()
    assert len(page.all("img")) == 2 + 3
    seen = hostile.replace("\n", "?").replace("\x1b", "?").replace("\u202e", "?")
    words = "".join(page.words)
    assert f"{kind}/{seen}" in words
    assert f"{seen}: <b>no mask</b>" in words
    assert "<u>: test report" in words
    assert f"Photograph {kind}/{seen}" in [attributes["alt"] for attributes in page.all("img")]


def test_file_names_in_a_broken_encoding_are_written_all_the_same(tmp_path):
    broken = b"good/caf\xe9.png".decode("utf-8", "surrogateescape")
    page = _report(tmp_path, ((broken, 1.0), ("crack/0.png", 3.0)))
    assert "good/caf?.png" in page.words
    assert _json(tmp_path)["images"][0]["name"] == broken


@pytest.mark.parametrize(
    ("scored", "reason"),
    [
        ((("good/0.png", 1.0), ("good/1.png", 1.5)), "no defects in the test set"),
        ((("crack/0.png", 3.0),), "no good pictures in the test set"),
    ],
)
def test_figures_that_do_not_exist_say_none_and_why(tmp_path, scored, reason):
    page = _report(tmp_path, scored, masks=False, pixel_auroc=None, pixel_share_flagged_good=None)
    assert page.words.count("none") == 6
    assert page.words.count(reason) >= 2
    assert any("no usable masks" in words for words in page.words)
    assert set(page.figures) & {"image_auroc", "pixel_auroc", "image_best_f1.f1"} == set()
    assert not re.search(r"\bnan\b|\bNone\.?\d", "".join(page.words), re.IGNORECASE)
    assert _json(tmp_path)["image_auroc"] is None


def test_pictures_without_a_usable_mask_are_shown_with_words_in_its_place(tmp_path):
    page = _report(tmp_path, masks=False, pixel_auroc=None)
    assert len(page.all("img")) == 2 * len(USUAL)
    assert page.words.count("no usable mask") == 3
    assert page.words.count("no defect") == 3


def test_a_defect_that_the_crop_hides_is_called_so(tmp_path):
    scored = (("crack/0.png", 1.0),)
    path = tmp_path / "test" / "crack" / "0.png"
    _photo(path, (40, 80))
    gallery = _gallery()
    picture = Picture(path=path, defect="crack", mask=None)
    gallery.visit(picture, _result(1.0, size=(40, 80)), np.zeros((SIDE, SIDE), np.bool_))
    write_report(tmp_path / "report", _evaluation(scored), gallery, MANIFEST)
    page = Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))
    assert "defect outside the crop" in page.words
    assert len(page.all("img")) == 2


def test_the_page_is_limited_and_says_so_while_json_names_every_picture(tmp_path):
    count = MAX_SHOTS + 3
    scored = tuple((f"good/{n:03d}.png", 1.0 + n / 1000) for n in range(count))
    page = _report(tmp_path, scored, size=(8, 8))
    assert len(page.all("h3")) == MAX_SHOTS
    assert any(f"{MAX_SHOTS} of {count} pictures" in words for words in page.words)
    assert len(_json(tmp_path)["images"]) == count


@pytest.mark.parametrize("size", [(2000, 1500), (8, 4000), (32, 32), (4000, 8)])
def test_a_picture_costs_at_most_60_kb_whatever_its_size(tmp_path, size):
    evaluation, gallery = _run(tmp_path, (("crack/0.png", 3.0),), size=size)
    small = gallery.shots(evaluation)[0].thumbnails
    assert len(small.photo) + len(small.truth) + len(small.heat) <= 60_000
    assert max(small.width, small.height) == 240
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
    result = _result(3.0)
    result = Result(**{**vars(result), "anomaly_map": np.where(mask, 9, 0).astype(np.float32)})
    result = Result(**{**vars(result), "placement": cropped})
    gallery = _gallery()
    gallery.visit(Picture(path=path, defect="crack", mask=None), result, mask)
    small = gallery.shots(_evaluation((("crack/0.png", 3.0),)))[0].thumbnails
    heat = np.asarray(Image.open(io.BytesIO(small.heat))).astype(int)
    truth = np.asarray(Image.open(io.BytesIO(small.truth))).astype(int)
    hot = np.zeros((120, 240), np.bool_)
    hot[:60, 120:180] = True
    hottest = colorize(np.full((1, 1), 4, np.float32), SCALE)[0, 0].astype(int)
    is_hot = np.abs(heat - hottest).max(axis=2) < 50
    assert (is_hot != hot).mean() < 0.03
    is_green = (truth[..., 1] - truth[..., 0]) > 120
    assert 100 < is_green.sum() < 800
    rows, columns = np.nonzero(is_green)
    assert 55 <= rows.max() <= 66
    assert 112 <= columns.min() <= 122
    assert 176 <= columns.max() <= 186


def test_a_thin_scratch_is_outlined_too(tmp_path):
    evaluation = _evaluation((("crack/0.png", 3.0),))
    path = tmp_path / "crack" / "0.png"
    path.parent.mkdir()
    Image.new("RGB", (2000, 2000), (128, 128, 128)).save(path)
    mask = np.zeros((512, 512), np.bool_)
    mask[100, 50:400] = True
    place = Placement(
        photo_height=2000, photo_width=2000, resized_height=512, resized_width=512, top=0, left=0
    )
    plain = {"anomaly_map": np.zeros((512, 512), np.float32), "placement": place}
    gallery = _gallery()
    gallery.visit(
        Picture(path=path, defect="crack", mask=None),
        Result(**{**vars(_result(3.0)), **plain}),
        mask,
    )
    truth = Image.open(io.BytesIO(gallery.shots(evaluation)[0].thumbnails.truth))
    pixels = np.asarray(truth).astype(int)
    assert ((pixels[..., 1] - pixels[..., 0]) > 80).sum() > 300


def test_the_sheet_has_one_row_for_each_kind(tmp_path):
    heights = []
    for number, scored in enumerate((USUAL[:3], USUAL[:5], USUAL)):
        _report(tmp_path / str(number), scored)
        with Image.open(tmp_path / str(number) / "report" / "sheet.png") as sheet:
            sheet.load()
            assert sheet.mode == "RGB"
            heights.append(sheet.height)
    assert heights[2] - heights[1] == 180 + 58  # a thumbnail and its line of text
    assert heights[0] < heights[1]


def test_examples_of_a_kind_are_the_median_and_another_most_confusing_one(tmp_path):
    scored = tuple((f"crack/{n}.png", score) for n, score in enumerate((2.5, 9.0, 3.0, 1.0, 4.0)))
    evaluation, gallery = _run(tmp_path, scored)
    shots = gallery.shots(evaluation)
    chosen = [(words, shot.image.score) for words, shot in examples(shots)]
    assert chosen == [("median", 3.0), ("most confusing", 1.0)]
    alone = [shot for shot in shots if shot.image.score == 1.0]
    assert [words for words, _ in examples(alone)] == ["median"]


def test_bars_never_mix_verdicts_and_count_every_picture():
    rng = np.random.default_rng(0)
    good, defect = rng.normal(1, 0.3, 50), rng.normal(3, 1, 70)
    good[0] = THRESHOLD  # not flagged
    binned = bin_scores(good.tolist(), defect.tolist(), THRESHOLD)
    edge = int(np.flatnonzero(binned.edges == THRESHOLD)[0])
    for scores, counts in ((good, binned.good), (defect, binned.defect)):
        assert counts.sum() == len(scores)
        assert counts[edge:].sum() == (scores > THRESHOLD).sum()
    assert len(binned.good) == len(binned.defect) == len(binned.edges) - 1


@pytest.mark.parametrize("score", [0.0, THRESHOLD, -3.0, 1e9])
def test_scores_that_are_all_but_equal_still_give_a_histogram(score):
    for threshold in (score, THRESHOLD):
        binned = bin_scores([score, np.nextafter(score, 1e10)], [], threshold)
        assert binned.good.sum() == 2
        assert binned.defect.sum() == 0
        assert (np.diff(binned.edges) > 0).all()


def test_the_same_evaluation_gives_the_same_bytes_and_replaces_an_older_report(tmp_path):
    evaluation, gallery = _run(tmp_path / "dataset")
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
    evaluation, gallery = _run(tmp_path / "dataset")
    (tmp_path / "taken").write_text("a file")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(OutputError, match=r"taken.*expected a folder.*no report") as refusal:
            write_report(folder, evaluation, gallery, MANIFEST)
        assert "\n" not in str(refusal.value)
    assert (tmp_path / "taken").read_text() == "a file"


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_a_files_place_is_refused_and_nothing_is_half_written(tmp_path, name):
    evaluation, gallery = _run(tmp_path / "dataset")
    folder = tmp_path / "report"
    (folder / name).mkdir(parents=True)
    with pytest.raises(OutputError, match=f"{name} is a folder"):
        write_report(folder, evaluation, gallery, MANIFEST)
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_path_too_long_for_the_disk_leaves_no_new_folder_behind(tmp_path):
    evaluation, gallery = _run(tmp_path / "dataset")
    with pytest.raises(OutputError, match=r"(?i)name too long"):
        write_report(tmp_path / "new" / ("x" * 300), evaluation, gallery, MANIFEST)
    assert not (tmp_path / "new").exists()


def test_a_disk_that_fills_up_half_way_leaves_the_older_report_untouched(tmp_path):
    evaluation, gallery = _run(tmp_path / "dataset")
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
    evaluation, gallery = _run(tmp_path / "dataset")
    other = _evaluation((*USUAL[:-1], ("stain/0.png", 9.0)))
    fewer = _evaluation(USUAL[:-1])
    for wrong, visited in ((evaluation, _gallery()), (other, gallery), (fewer, gallery)):
        with pytest.raises(ValueError, match="new Gallery"):
            write_report(tmp_path / "report", wrong, visited, MANIFEST)
    assert not (tmp_path / "report").exists()


def test_an_artifact_of_another_category_is_pointed_out(tmp_path):
    page = _report(tmp_path, category="washers")
    assert any("was built for" in words for words in page.words)
    assert "nuts & bolts" in page.words


def test_each_chart_holds_its_curve_cut_at_the_limit(tmp_path):
    evaluation, gallery = _run(tmp_path / "dataset")
    write_report(tmp_path / "report", evaluation, gallery, MANIFEST)
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count('class="curve first"') == 2
    assert page.count('class="curve second"') == 1
    # PRO ends at 0.3, two thirds of the way from (0.1, 0.8) to (0.4, 0.9): 0.8667.
    last = re.findall(r'class="curve first" d="[^"]*L([0-9.]+) ([0-9.]+)"', page)[1]
    left, side, top = 40, 240, 12
    assert float(last[0]) == left + side
    assert float(last[1]) == pytest.approx(top + (1 - (0.8 + 2 / 30)) * side, abs=0.06)


def test_a_figure_of_zero_is_a_figure(tmp_path):
    page = _report(tmp_path, pixel_share_flagged_good=0.0, pixel_auroc=0.0)
    assert page.figures["pixel_share_flagged_good"] == [("0.0", "0.0%")]
    assert page.figures["pixel_auroc"] == [("0.0", "0.0000")]
    assert "none" not in page.words


def test_best_f1_says_that_its_threshold_was_chosen_on_the_test_set(tmp_path):
    page = _report(tmp_path, image_best_f1=BestF1(f1=0.75, threshold=2.125))
    assert page.figures["image_best_f1.f1"] == [("0.75", "0.7500")]
    assert any("chosen on the test set" in words for words in page.words)
