"""Laws of layouts: told by names alone, never mixed, and the same images give the same scores."""

import itertools
import json

import numpy as np
import pytest
from PIL import Image

from artifact_factory import PHOTO_SIZE, striped_photo
from patchcore_build.cli.main import main
from patchcore_build.data.dataset import list_test_images, open_dataset, read_mask
from patchcore_build.data.layouts import LAYOUTS
from patchcore_build.errors import DatasetError
from patchcore_build.evaluation.evaluate import evaluate
from patchcore_runtime import Detector

CATEGORY = "part"
CSV_HEAD = "object,split,label,image,mask"
# Where each layout keeps: an image to learn from, a good one, a defect, its mask.
PLACES = {
    "mvtec": (
        "part/train/good/{}.png",
        "part/test/good/{}.png",
        "part/test/dent/{}.png",
        "part/ground_truth/dent/{}_mask.png",
    ),
    "mvtec-ad-2": (
        "part/train/good/{}_regular.png",
        "part/test_public/good/{}_regular.png",
        "part/test_public/bad/{}_regular.png",
        "part/test_public/ground_truth/bad/{}_regular_mask.png",
    ),
    "btad": (
        "part/train/ok/{}.bmp",
        "part/test/ok/{}.bmp",
        "part/test/ko/{}.bmp",
        "part/ground_truth/ko/{}.png",
    ),
    "visa": (
        "part/Data/Images/Normal/0{}.png",
        "part/Data/Images/Normal/1{}.png",
        "part/Data/Images/Anomaly/{}.png",
        "part/Data/Masks/Anomaly/{}.png",
    ),
    "plain": ("normal/{}.png", "normal_test/{}.png", "abnormal/{}.png", "masks/{}.png"),
}
DEFECTS = {
    "mvtec": "dent",
    "mvtec-ad-2": "bad",
    "btad": "ko",
    "visa": "anomaly",
    "plain": "abnormal",
}


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make(layout, root, *, count=2):
    """The same images in any layout; VisA's masks hold class numbers, as they do there."""
    train, good, bad, masks = PLACES[layout]
    mask = np.zeros(PHOTO_SIZE, np.uint8)
    for number in range(count):
        save(root / train.format(f"{number:03}"), striped_photo(number))
        save(root / good.format(f"{number:03}"), striped_photo(100 + number))
        photo = striped_photo(200 + number)
        photo[30:50, 50:80] = (250, 20, 250)
        mask[30:50, 50:80] = number + 1 if layout == "visa" else 255
        save(root / bad.format(f"{number:03}"), photo)
        save(root / masks.format(f"{number:03}"), mask)
    if layout == "visa":
        write_split(root, visa_rows(count))
    return root


def visa_rows(count=2):
    train, good, bad, masks = PLACES["visa"]
    rows = []
    for name in reversed([f"{number:03}" for number in range(count)]):  # not in order of names
        rows += [
            f"part,test,anomaly,{bad.format(name)},{masks.format(name)}",
            f"part,train,normal,{train.format(name)},",
            f"part,test,normal,{good.format(name)},",
        ]
    return rows


def write_split(root, rows, *, head=CSV_HEAD, end="\n", mark=b""):
    file = root / "split_csv" / "1cls.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(mark + "".join(line + end for line in [head, *rows]).encode())
    return file


@pytest.fixture(params=PLACES)
def layout(request):
    return request.param


@pytest.fixture
def root(layout, tmp_path):
    return make(layout, tmp_path / CATEGORY)


def test_each_layout_is_told_and_named(layout, root):
    dataset = open_dataset(root)
    assert dataset.layout == layout
    assert dataset.categories() == (CATEGORY,)


def test_what_is_learned_and_what_is_tested_comes_sorted_and_apart(layout, root):
    dataset = open_dataset(root)
    places = [sorted(place.format(f"{n:03}") for n in range(2)) for place in PLACES[layout]]
    learned = dataset.training_images(CATEGORY)
    assert [path.relative_to(root).as_posix() for path in learned.images] == places[0]
    tested = dataset.test_images(CATEGORY)
    assert tested == list_test_images(root, CATEGORY)
    assert sorted(image.path.relative_to(root).as_posix() for image in tested) == sorted(
        places[1] + places[2]
    )
    names = [image.name for image in tested]
    assert names == sorted(set(names))
    for image in tested:
        assert image.path.as_posix().endswith(f"/{image.name}")


def test_defects_have_their_own_masks_and_good_images_none(layout, root):
    found = {image.path: image for image in list_test_images(root, CATEGORY)}
    _, good, bad, masks = (
        [root / place.format(f"{n:03}") for n in range(2)] for place in PLACES[layout]
    )
    for path in good:
        assert (found[path].is_anomalous, found[path].mask) == (False, None)
    for path, mask in zip(bad, masks, strict=True):
        assert (found[path].defect, found[path].mask) == (DEFECTS[layout], mask)


def test_detection_reads_no_image(root):
    for path in root.rglob("*"):
        if path.suffix in {".png", ".bmp"}:
            path.write_bytes(b"")
    dataset = open_dataset(root)
    assert len(dataset.training_images(CATEGORY).images) == 2
    assert len(dataset.test_images(CATEGORY)) == 4


def test_strays_and_hidden_folders_beside_the_categories_change_nothing(layout, root):
    (root / "license.txt").write_text("x", encoding="utf-8")
    (root / "notes").mkdir()
    (root / ".cache" / "train" / "good").mkdir(parents=True)
    (root / ".cache" / "test_public").mkdir()
    assert (open_dataset(root).layout, open_dataset(root).categories()) == (layout, (CATEGORY,))


def test_an_unknown_category_is_refused_with_those_that_exist(root):
    dataset = open_dataset(root)
    for listing in (dataset.training_images, dataset.test_images):
        for name in ("nut", "", ".", "../part"):
            with pytest.raises(DatasetError, match=r"no category .*categories here: part;"):
                listing(name)


def test_the_same_images_get_the_same_scores_in_every_layout(root, tmp_path, detector):
    expected = evaluate(detector, make("mvtec", tmp_path / "reference"), CATEGORY)
    result = evaluate(detector, root, CATEGORY)
    assert result.problems == ()
    assert facts(result) == facts(expected)
    assert result.image_auroc == expected.image_auroc
    assert result.pixel_auroc == expected.pixel_auroc > 0.9


def facts(result):
    return sorted((image.is_anomalous, image.score, image.map_maximum) for image in result.images)


@pytest.fixture(scope="module")
def detector(tiny_artifact):
    return Detector.load(tiny_artifact, threads=1)


def test_the_command_evaluates_each_layout_and_names_it(
    layout, root, tiny_artifact, tmp_path, capfd
):
    order = ["evaluate", str(tiny_artifact), "--dataset", str(root), "--category", CATEGORY]
    assert main([*order, "--output", str(tmp_path / "out")]) == 0
    assert f"part ({layout} layout), 4 images" in capfd.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert str(root) not in json.dumps(report)


def test_the_command_learns_the_same_from_a_split_file_as_from_folders(tmp_path, capfd):
    banks = []
    for layout in ("visa", "mvtec"):
        root, artifact = make(layout, tmp_path / layout), tmp_path / f"{layout}-artifact"
        order = ["fit", "--dataset", str(root), "--category", CATEGORY, "--output", str(artifact)]
        order += ["--backbone", "resnet18", "--weights", "random", "--resize-px", "64"]
        assert main([*order, "--folds", "2"]) == 0
        assert f"images: 2, {layout} layout" in capfd.readouterr().out
        banks.append((artifact / "memory_bank.bin").read_bytes())
    assert banks[0] == banks[1]


@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(PLACES, 2)])
def test_two_layouts_in_one_folder_are_refused_with_both_names(first, second, tmp_path):
    root, other = make(first, tmp_path / CATEGORY), make(second, tmp_path / "other")
    for path in other.iterdir():  # under another category's name, where there are categories
        path.rename(root / ("nut" if path.name == CATEGORY else path.name))
    with pytest.raises(DatasetError, match="expected one layout, got ") as caught:
        open_dataset(root)
    assert f"{first} (" in str(caught.value)
    assert f"{second} (" in str(caught.value)


def test_one_category_with_the_signs_of_two_layouts_is_refused(tmp_path):
    (tmp_path / "part" / "train" / "good").mkdir(parents=True)
    (tmp_path / "part" / "test" / "ok").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"part: .*test/ok \(btad\) beside train/good \(mvtec\)"):
        open_dataset(tmp_path)


def test_a_defect_called_ko_does_not_make_it_btad(tmp_path):
    make("mvtec", tmp_path)
    save(tmp_path / "part" / "test" / "ko" / "0.png", striped_photo(1))
    assert open_dataset(tmp_path).layout == "mvtec"


def test_what_is_no_data_set_is_refused_with_what_was_looked_for_and_what_is_there(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="found nothing;"):
        open_dataset(tmp_path)
    (tmp_path / ".hidden").mkdir()
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text("x", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"found 0\.txt, 1\.txt,.* 7\.txt and 2 more;") as caught:
        open_dataset(tmp_path)
    for name, sign in LAYOUTS.items():
        assert f"{name}: {sign}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_categorys_own_folder_is_refused_with_its_parent(tmp_path):
    for layout in ("mvtec", "mvtec-ad-2", "btad"):
        root = make(layout, tmp_path / layout)
        with pytest.raises(DatasetError, match=rf"use --dataset .*{layout} --category part"):
            open_dataset(root / "part")


def test_categories_are_sorted_and_each_has_its_own_images(tmp_path):
    for name in ("02", "10", "01"):
        (make("btad", tmp_path / "new", count=int(name)) / "part").rename(tmp_path / name)
        (tmp_path / "new").rmdir()
    dataset = open_dataset(tmp_path)
    assert dataset.categories() == ("01", "02", "10")
    assert [len(dataset.training_images(name).images) for name in dataset.categories()] == [
        1,
        2,
        10,
    ]


def test_btads_masks_may_have_any_lossless_suffix(tmp_path):
    root = make("btad", tmp_path)
    mask = root / "part" / "ground_truth" / "ko" / "000.png"
    Image.open(mask).save(mask.with_suffix(".bmp"))
    mask.unlink()
    (image, *_) = list_test_images(root, CATEGORY)
    assert image.mask == mask.with_suffix(".bmp")


def test_mvtec_ad_2_learns_from_train_only_and_tests_the_public_set_only(tmp_path):
    root = make("mvtec-ad-2", tmp_path)
    for place in ("validation/good", "test_private", "test_private_mixed"):
        save(root / "part" / place / "000_regular.png", striped_photo(1))
    dataset = open_dataset(root)
    assert len(dataset.training_images(CATEGORY).images) == 2
    assert [image.name for image in dataset.test_images(CATEGORY)] == [
        "bad/000_regular.png",
        "bad/001_regular.png",
        "good/000_regular.png",
        "good/001_regular.png",
    ]


def test_without_good_test_images_a_plain_set_has_no_auroc_and_tests_nothing_it_learned(
    tmp_path, detector
):
    root = make("plain", tmp_path / CATEGORY)
    for path in (root / "normal_test").iterdir():
        path.unlink()
    (root / "normal_test").rmdir()
    result = evaluate(detector, root, CATEGORY)
    assert [image.name for image in result.images] == ["abnormal/000.png", "abnormal/001.png"]
    assert result.image_auroc is None
    assert any("no good images" in problem for problem in result.problems)


def test_a_plain_set_may_be_split_into_train_and_test(tmp_path):
    root = make("plain", tmp_path / CATEGORY)
    (root / "train").mkdir()
    (root / "test").mkdir()
    (root / "normal").rename(root / "train" / "normal")
    (root / "normal_test").rename(root / "test" / "normal")
    (root / "abnormal").rename(root / "test" / "abnormal")
    (root / "masks").rename(root / "test" / "masks")
    dataset = open_dataset(root)
    assert dataset.layout == "plain"
    assert [path.name for path in dataset.training_images(CATEGORY).images] == [
        "000.png",
        "001.png",
    ]
    tested = dataset.test_images(CATEGORY)
    assert [(image.name, image.defect, image.mask is None) for image in tested] == [
        ("test/abnormal/000.png", "abnormal", False),
        ("test/abnormal/001.png", "abnormal", False),
        ("test/normal/000.png", "good", True),
        ("test/normal/001.png", "good", True),
    ]
    (root / "normal").mkdir()
    with pytest.raises(DatasetError, match="expected one of normal and train/normal, got both"):
        dataset.training_images(CATEGORY)


def test_folders_below_abnormal_name_the_defect_and_masks_mirror_them(tmp_path):
    root = make("plain", tmp_path / CATEGORY)
    save(root / "abnormal" / "crack" / "000.png", striped_photo(1))
    mask = save(root / "masks" / "crack" / "000_mask.png", np.ones((4, 4), np.uint8))
    found = {image.name: image for image in list_test_images(root, CATEGORY)}
    crack = found["abnormal/crack/000.png"]
    assert (crack.defect, crack.mask) == ("crack", mask)
    assert found["abnormal/000.png"].mask == root / "masks" / "000.png"
    save(root / "abnormal" / "good" / "000.png", striped_photo(1))
    with pytest.raises(DatasetError, match=r"good.000\.png: expected a defect's name"):
        list_test_images(root, CATEGORY)


def test_a_plain_set_without_anything_to_test_or_to_learn_is_refused(tmp_path):
    save(tmp_path / CATEGORY / "normal" / "0.png", striped_photo(1))
    with pytest.raises(DatasetError, match="expected test images in abnormal/ or normal_test/"):
        list_test_images(tmp_path / CATEGORY, CATEGORY)
    save(tmp_path / "bad" / "abnormal" / "0.png", striped_photo(1))
    with pytest.raises(DatasetError, match="normal: no such folder"):
        open_dataset(tmp_path / "bad").training_images("bad")


def test_visas_split_may_have_windows_line_endings_a_mark_and_columns_in_any_order(tmp_path):
    root = make("visa", tmp_path)
    before = open_dataset(root).test_images(CATEGORY), open_dataset(root).training_images(CATEGORY)
    write_split(root, visa_rows(), end="\r\n", mark=b"\xef\xbb\xbf")
    dataset = open_dataset(root)
    assert (dataset.test_images(CATEGORY), dataset.training_images(CATEGORY)) == before
    turned = [",".join(reversed(row.split(","))) for row in visa_rows()]
    write_split(root, turned, head=",".join(reversed(CSV_HEAD.split(","))))
    assert (dataset.test_images(CATEGORY), dataset.training_images(CATEGORY)) == before


def test_visa_learns_from_the_split_and_not_from_the_folder(tmp_path):
    root = make("visa", tmp_path)
    save(root / "part" / "Data" / "Images" / "Normal" / "unlisted.png", striped_photo(1))
    names = [path.name for path in open_dataset(root).training_images(CATEGORY).images]
    assert names == ["0000.png", "0001.png"]


def test_visa_without_its_split_file_is_named_and_refused(tmp_path):
    root = make("visa", tmp_path)
    (root / "split_csv" / "1cls.csv").unlink()
    dataset = open_dataset(root)
    assert dataset.layout == "visa"
    with pytest.raises(DatasetError, match=r"1cls\.csv: no such file; expected the split"):
        dataset.categories()


def test_class_numbers_mark_the_defect_in_visa_and_nowhere_else(tmp_path, detector):
    root = make("visa", tmp_path / "visa")
    image = list_test_images(root, CATEGORY)[0]
    place = detector.predict(image.path).placement
    assert np.asarray(Image.open(image.mask)).max() == 1
    assert read_mask(image, place, (64, 96)).any()
    for layout in set(PLACES) - {"visa"}:
        root = make(layout, tmp_path / layout / CATEGORY)
        image = next(i for i in list_test_images(root, CATEGORY) if i.is_anomalous)
        save(image.mask, np.asarray(Image.open(image.mask)) // 255)
        with pytest.raises(DatasetError, match=r"got an empty mask, its largest value is 1"):
            read_mask(image, place, (64, 96))


IMAGE = "part/Data/Images/Normal/0000.png"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("part,train,normal", r"8: expected a value for each column"),
        (f"part,train,normal,{IMAGE},,,", r"8: expected a value for each column"),
        (f"part,val,normal,{IMAGE}x,", r"8: expected split train or test, got 'val'"),
        (f"part,test,good,{IMAGE}x,", r"8: expected label normal or anomaly, got 'good'"),
        (f"part,train,anomaly,{IMAGE}x,", r"8: expected normal images to learn from"),
        (f"part,test,normal,{IMAGE},", r"8: .*0000\.png is listed already at .*1cls\.csv:6"),
        ("part,train,normal,part/Data/none.png,", r"8: expected the image .*none\.png, got no"),
        ("part,train,normal,/part/x.png,", r"8: expected a path below part/"),
        ("part,train,normal,part/../x.png,", r"8: expected a path below part/"),
        ("part,train,normal,nut/x.png,", r"8: expected a path below part/, got 'nut/x\.png'"),
        ('part,train,normal,"part/x"y,', r"8: expected comma-separated UTF-8"),
    ],
)
def test_a_bad_line_of_the_split_is_refused_by_file_and_line(tmp_path, row, message):
    root = make("visa", tmp_path)
    write_split(root, [*visa_rows(), row])
    with pytest.raises(DatasetError, match=rf"split_csv.1cls\.csv:{message}") as caught:
        open_dataset(root).training_images(CATEGORY)
    assert "\n" not in str(caught.value)


def test_a_split_with_other_columns_or_no_text_at_all_is_refused(tmp_path):
    root = make("visa", tmp_path)
    write_split(root, visa_rows(), head="object,set,label,image,mask")
    with pytest.raises(DatasetError, match=r"1cls\.csv:1: expected the columns object,split,"):
        open_dataset(root).categories()
    for content in (b"", b"\xff\xfe\x00"):
        (root / "split_csv" / "1cls.csv").write_bytes(content)
        with pytest.raises(DatasetError, match=r"1cls\.csv:1: expected"):
            open_dataset(root).categories()


def test_a_split_without_the_wanted_images_is_refused(tmp_path):
    root = make("visa", tmp_path)
    write_split(root, [row for row in visa_rows() if ",train," not in row])
    with pytest.raises(DatasetError, match=r"expected images of part, train; got none"):
        open_dataset(root).training_images(CATEGORY)


def test_a_mask_that_the_split_does_not_name_costs_the_pixels_only(tmp_path, detector):
    root = make("visa", tmp_path)
    write_split(root, [row.replace("part/Data/Masks/Anomaly/000.png", "") for row in visa_rows()])
    (root / "part" / "Data" / "Masks" / "Anomaly" / "001.png").unlink()
    result = evaluate(detector, root, CATEGORY)
    assert result.image_auroc is not None
    assert "Anomaly/000.png: no mask found in" in result.problems[0]
    assert "1cls.csv" in result.problems[0]
    assert "Anomaly/001.png: " in result.problems[1]
