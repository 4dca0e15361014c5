"""Laws of the demo data set: MVTec AD's layout, the same seed gives the same bytes, exact masks."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from patchcore_build.data.demo import DEFECTS, render_plate, write_demo_dataset
from patchcore_build.errors import DatasetError

SMALL = {"train": 3, "test_good": 2, "per_defect": 2, "size_px": 96}


def _digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.png")
    }


@pytest.fixture(scope="module")
def category(tmp_path_factory):
    return write_demo_dataset(tmp_path_factory.mktemp("demo"), **SMALL)


def test_the_layout_is_that_of_mvtec_ad(category):
    expected = {f"train/good/{number:03d}.png" for number in range(3)}
    expected |= {f"test/good/{number:03d}.png" for number in range(2)}
    for name in ("scratch", "dent", "crack", "stain", "missing_hole"):
        expected |= {f"test/{name}/{number:03d}.png" for number in range(2)}
        expected |= {f"ground_truth/{name}/{number:03d}_mask.png" for number in range(2)}
    assert set(_digests(category)) == expected
    assert category.name == "brushed_plate"
    assert [path.name for path in category.parent.iterdir()] == ["brushed_plate"]


def test_images_are_rgb_and_masks_are_black_and_white(category):
    paths = list(category.rglob("*.png"))
    assert len(paths) == 3 + 2 + 2 * 2 * len(DEFECTS)
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (96, 96)
            assert image.mode == ("L" if path.name.endswith("_mask.png") else "RGB")
            if image.mode == "L":
                assert set(np.unique(image)) == {0, 255}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(category, tmp_path):
    again = write_demo_dataset(tmp_path / "again", **SMALL)
    other = write_demo_dataset(tmp_path / "other", seed=1, **SMALL)
    assert _digests(again) == _digests(category)
    assert not set(_digests(other).values()) & set(_digests(category).values())


def test_larger_counts_only_add_images(category, tmp_path):
    more = write_demo_dataset(tmp_path, train=5, test_good=3, per_defect=3, size_px=96)
    assert _digests(category).items() < _digests(more).items()


def test_no_two_images_are_equal(category):
    images = [digest for name, digest in _digests(category).items() if "ground" not in name]
    assert len(images) == 3 + 2 + 2 * len(DEFECTS)
    assert len(set(images)) == len(images)


def test_good_plates_vary_in_place_light_and_texture_but_stay_one_product():
    plates = [render_plate((0, 0, number))[0].astype(np.float32) for number in range(6)]
    pairs = [(a, b) for i, a in enumerate(plates) for b in plates[:i]]
    differences = [float(np.abs(a - b).mean()) for a, b in pairs]
    assert min(differences) > 2
    assert max(differences) < 40
    correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]
    assert min(correlations) > 0.7
    assert np.ptp([plate.mean() for plate in plates]) > 2


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("size_px", [64, 100, 256])
@pytest.mark.parametrize("number", range(4))
def test_a_damaged_plate_equals_its_good_twin_exactly_outside_the_mask(defect, size_px, number):
    good, nothing = render_plate((7, number), size_px=size_px)
    damaged, region = render_plate((7, number), size_px=size_px, defect=defect)
    changed = (good != damaged).any(axis=2)
    assert not nothing.any()
    assert not changed[~region].any()
    assert changed[region].mean() > 0.6
    assert 4 <= region.sum() < 0.05 * region.size


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_stronger_than_the_sensor_noise_but_not_glaring(defect):
    for number in range(6):
        good, _ = render_plate((11, number))
        damaged, region = render_plate((11, number), defect=defect)
        step = np.abs(good.astype(np.float32) - damaged)[region].mean()
        assert 5 < step < 120


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_of_one_kind_sit_elsewhere_from_image_to_image(defect):
    regions = [render_plate((3, number), size_px=96, defect=defect)[1] for number in range(6)]
    middles = [np.argwhere(region).mean(axis=0) for region in regions]
    assert np.ptp(middles, axis=0).max() > 20  # the plate itself moves by 3 px at most


def test_written_images_and_masks_are_the_rendered_ones(category):
    image, region = render_plate((0, 2, 1), size_px=96, defect="scratch")
    with Image.open(category / "test/scratch/001.png") as written:
        assert (np.asarray(written) == image).all()
    with Image.open(category / "ground_truth/scratch/001_mask.png") as written:
        assert ((np.asarray(written) == 255) == region).all()


def test_an_existing_category_is_refused_and_left_alone(tmp_path):
    (tmp_path / "brushed_plate").mkdir()
    (tmp_path / "brushed_plate" / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="brushed_plate: expected no such folder, but it exists"):
        write_demo_dataset(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.rglob("*")] == ["brushed_plate", "mine.txt"]


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    with pytest.raises(ValueError, match="expected size_px >= 64, got 63"):
        write_demo_dataset(tmp_path, size_px=63)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "brushed_plate").symlink_to("nowhere")  # the last step, renaming, fails
    with pytest.raises(OSError, match="brushed_plate"):
        write_demo_dataset(tmp_path, **SMALL)
    with pytest.raises(OSError, match="file"):
        write_demo_dataset(tmp_path / "file", **SMALL)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "brushed_plate"}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a"])
def test_a_category_that_is_no_folder_name_is_refused(tmp_path, name):
    with pytest.raises(DatasetError, match="expected a plain folder name"):
        write_demo_dataset(tmp_path, category=name, **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "numbers", [{"train": 0}, {"test_good": -1}, {"per_defect": -1}, {"seed": -1}]
)
def test_counts_and_seeds_out_of_range_are_refused(tmp_path, numbers):
    with pytest.raises(ValueError, match="expected seed >= 0, train >= 1"):
        write_demo_dataset(tmp_path, **{**SMALL, **numbers})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_defect_is_refused_by_name():
    with pytest.raises(ValueError, match="expected a defect of scratch, dent, crack, stain"):
        render_plate((0,), defect="rust")
