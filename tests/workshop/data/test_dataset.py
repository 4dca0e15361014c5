"""Laws of reading folders: the order is by name, other files are named, refusals too."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from artifact_factory import tiny_config, write_photos
from patchcore_build.config import make_config
from patchcore_build.data.dataset import list_images, list_test_images, open_dataset, read_mask
from patchcore_build.data.training_inputs import digest_images, load_inputs
from patchcore_build.errors import DatasetError
from patchcore_build.storage import Storage
from patchcore_runtime.errors import ImageError
from patchcore_runtime.image.preprocess import fit_to_input
from patchcore_runtime.manifest.manifest import Preprocessing

SPOILED = ("truncated", "truncated behind its header", "text", "empty", "one pixel")
SEVEN = ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp")


def save(path, *, size=(40, 60), seed=0):
    """A noisy image of (height, width); the suffix names the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def save_mask(path, *, size=(40, 60), box=(10, 20, 20, 40), value=255):
    """A mask with rows box[0]..box[2] and columns box[1]..box[3] marked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[box[0] : box[2], box[1] : box[3]] = value
    Image.fromarray(mask).save(path)
    return path


def load(folder, tmp_path, *, recipe="full-frame", skip_bad=False, **overrides):
    config = make_config(recipe, **{"resize_px": 64, **overrides})
    storage = Storage(tmp_path, budget_bytes=2**26)
    return load_inputs(list_images(folder), config, storage, skip_bad=skip_bad)


def names(folder):
    return [folder.name(image) for image in folder.images]


def placed(size, *, resize="stretch", resized=(64, 64), shape=(64, 64)):
    settings = Preprocessing(
        resize=resize,
        resize_height=resized[0],
        resize_width=resized[1],
        filter="bilinear",
        height=shape[0],
        width=shape[1],
    )
    return fit_to_input(Image.new("RGB", size[::-1]), settings)[1]


def only_test_image(dataset):
    (image,) = [image for image in list_test_images(dataset, "part") if image.is_anomalous]
    return image


def test_images_come_in_the_order_of_their_names_not_of_the_directory(tmp_path):
    wanted = ["10.png", "2.png", "B.png", "a/z.png", "a0.png", "ä.png"]
    for folder, order in (("one", wanted), ("two", wanted[::-1])):
        for name in order:
            save(tmp_path / folder / name)
    assert names(list_images(tmp_path / "one")) == wanted
    assert names(list_images(tmp_path / "two")) == wanted


def test_all_seven_suffixes_are_read_in_lower_and_upper_case(tmp_path):
    for suffix in SEVEN:
        save(tmp_path / "in" / f"small.{suffix}")
        save(tmp_path / "in" / f"tmp.{suffix}").rename(tmp_path / "in" / f"L.{suffix.upper()}")
    folder = list_images(tmp_path / "in")
    assert len(folder.images) == 14
    assert len(load(tmp_path / "in", tmp_path).pixels) == 14


def test_strays_are_counted_and_hidden_files_do_not_exist(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "a.png.bak").write_text("x", encoding="utf-8")
    save(tmp_path / ".hidden.png")
    save(tmp_path / ".thumbnails" / "a.png")
    folder = list_images(tmp_path)
    assert names(folder) == ["a.png"]
    assert "left out 2 without" in folder.left_out


def test_a_folder_below_a_hidden_one_is_read(tmp_path):
    save(tmp_path / ".cache" / "in" / "a.png")
    assert names(list_images(tmp_path / ".cache" / "in")) == ["a.png"]


def test_a_folder_without_images_is_refused_with_the_suffixes(tmp_path):
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"expected images \(\.bmp.*got none among 1 files"):
        list_images(tmp_path)


def test_a_missing_folder_is_refused_by_name(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere: no such folder"):
        list_images(tmp_path / "nowhere")


def test_an_unknown_category_is_refused_with_the_ones_that_exist(tmp_path):
    for category in ("screw", "bottle"):
        save(tmp_path / category / "train" / "good" / "0.png")
    (tmp_path / "readme").mkdir()
    with pytest.raises(DatasetError, match=r"categories here: bottle, screw; .*--normal"):
        open_dataset(tmp_path).training_images("nut")
    with pytest.raises(DatasetError, match=r"got one category of it; .* --category screw"):
        open_dataset(tmp_path / "screw")
    listed = open_dataset(tmp_path).training_images("screw")
    assert listed.root == tmp_path / "screw" / "train" / "good"


def test_mixed_sizes_share_one_input_geometry(tmp_path):
    for number, size in enumerate([(40, 60), (80, 120), (400, 600), (30, 30), (64, 64)]):
        save(tmp_path / "in" / f"{number}.png", size=size)
    inputs = load(tmp_path / "in", tmp_path, resize_px=128)
    assert inputs.pixels.shape == (5, 96, 160, 3)
    assert inputs.pixels.dtype == np.uint8


def test_rows_names_and_paths_belong_together(tmp_path):
    for number in range(40):  # more than are read ahead
        save(tmp_path / "in" / f"{number:02}.png", size=(64, 64), seed=number)
    inputs = load(tmp_path / "in", tmp_path)
    assert inputs.names == tuple(f"{number:02}.png" for number in range(40))
    for row, path in zip(inputs.pixels, inputs.paths, strict=True):
        np.testing.assert_array_equal(row, np.asarray(Image.open(path)))


def spoil(folder, kind):
    """One unreadable image among the others."""
    path = folder / "05.png"
    if kind == "truncated":
        save(path, size=(200, 200))
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "truncated behind its header":  # so that its size is known
        jpeg = save(folder / "05.jpg", size=(200, 200))
        path.write_bytes(jpeg.read_bytes()[:5000])
        jpeg.unlink()
    elif kind == "text":
        path.write_text("not an image", encoding="utf-8")
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        save(path, size=(1, 1))
    return path


@pytest.mark.parametrize("kind", SPOILED)
def test_one_unreadable_image_among_many_is_refused_by_name(tmp_path, kind):
    for number in range(10):
        save(tmp_path / "in" / f"{number:02}.png")
    bad = spoil(tmp_path / "in", kind)
    with pytest.raises(ImageError, match=rf"^{re.escape(str(bad))}: .*--skip-bad$") as caught:
        load(tmp_path / "in", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", SPOILED)
def test_skip_bad_keeps_the_others_and_lists_the_bad_without_its_machine(tmp_path, kind):
    for number in range(10):
        save(tmp_path / "in" / "sub" / f"{number:02}.png", seed=number)
    clean = load(tmp_path / "in", tmp_path)
    spoil(tmp_path / "in" / "sub", kind)
    inputs = load(tmp_path / "in", tmp_path, skip_bad=True)
    assert inputs.names == clean.names[:5] + clean.names[6:]
    np.testing.assert_array_equal(inputs.pixels, np.delete(clean.pixels, 5, axis=0))
    (reason,) = inputs.skipped
    assert reason.startswith("sub/05.png: ")
    assert str(tmp_path) not in reason


def test_a_folder_without_a_readable_image_is_refused(tmp_path):
    save(tmp_path / "in" / "0.png")
    (tmp_path / "in" / "1.png").write_bytes(b"")
    assert load(tmp_path / "in", tmp_path, skip_bad=True).names == ("0.png",)
    (tmp_path / "in" / "0.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"in: expected at least one readable image, got none"):
        load(tmp_path / "in", tmp_path, skip_bad=True)


def test_images_too_elongated_for_any_input_are_refused(tmp_path):
    for number in range(2):
        save(tmp_path / "in" / f"{number}.png", size=(8, 9000))
    with pytest.raises(DatasetError, match=r"in: .*width"):
        load(tmp_path / "in", tmp_path, resize_px=320)


def test_the_digest_knows_names_and_contents_and_nothing_else(tmp_path):
    digests = {}
    for folder, seeds in (("one", (1, 2)), ("two", (1, 2)), ("swapped", (2, 1))):
        for number, seed in enumerate(seeds):
            save(tmp_path / folder / f"{number}.png", seed=seed)
        digests[folder] = digest_images(load(tmp_path / folder, tmp_path))
    assert digests["one"] == digests["two"]
    assert digests["one"] != digests["swapped"]


def test_masks_are_matched_by_name_and_not_by_position(tmp_path):
    for number in (0, 3, 7):
        save(tmp_path / "part" / "test" / "dent" / f"{number:03}.png")
    truth = tmp_path / "part" / "ground_truth" / "dent"
    save_mask(truth / "007_mask.png")
    save_mask(truth / "001_mask.png")
    save_mask(truth / "000.bmp")
    listed = {image.path.stem: image.mask for image in list_test_images(tmp_path, "part")}
    assert listed == {"000": truth / "000.bmp", "003": None, "007": truth / "007_mask.png"}


def test_good_images_are_normal_and_have_nothing_marked(tmp_path):
    save(tmp_path / "part" / "test" / "good" / "000.png")
    save(tmp_path / "part" / "test" / "dent" / "000.png")
    dent, good = list_test_images(tmp_path, "part")
    assert (dent.defect, dent.is_anomalous) == ("dent", True)
    assert (good.defect, good.is_anomalous) == ("good", False)
    assert not read_mask(good, placed((40, 60)), (64, 64)).any()


def test_an_image_directly_in_test_is_refused_by_name(tmp_path):
    save(tmp_path / "part" / "test" / "good" / "000.png")
    save(tmp_path / "part" / "test" / "lost.png")
    with pytest.raises(DatasetError, match=r"lost\.png: expected a folder that names the defect"):
        list_test_images(tmp_path, "part")


def test_a_mask_that_cannot_be_used_is_refused_by_name(tmp_path):
    image = save(tmp_path / "part" / "test" / "dent" / "000.png")
    place = placed((40, 60))
    mask = tmp_path / "part" / "ground_truth" / "dent" / "000_mask.png"
    with pytest.raises(DatasetError, match=rf"{re.escape(str(image))}: no mask found"):
        read_mask(only_test_image(tmp_path), place, (64, 64))
    save_mask(mask, value=0)
    with pytest.raises(DatasetError, match=r"000_mask\.png: expected a marked defect"):
        read_mask(only_test_image(tmp_path), place, (64, 64))
    save_mask(mask, value=1)  # 0/1 instead of 0/255 must not pass for an image without defect
    with pytest.raises(DatasetError, match=r"000_mask\.png: expected a marked defect.*\b1\b"):
        read_mask(only_test_image(tmp_path), place, (64, 64))
    numbered = dataclasses.replace(only_test_image(tmp_path), mask_level=1)  # class numbers
    assert read_mask(numbered, place, (64, 64)).any()
    save_mask(mask, value=0)
    with pytest.raises(DatasetError, match=r"at least 1 of 255\), got an empty mask"):
        read_mask(numbered, place, (64, 64))
    save_mask(mask, size=(60, 40))
    with pytest.raises(DatasetError, match=r"000_mask\.png: expected 60 x 40 px .*got 40 x 60"):
        read_mask(only_test_image(tmp_path), place, (64, 64))
    mask.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"000_mask\.png: not a readable image"):
        read_mask(only_test_image(tmp_path), place, (64, 64))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_a_mask_may_be_8_bit_16_bit_or_1_bit(tmp_path, dtype):
    save(tmp_path / "part" / "test" / "dent" / "000.png", size=(64, 64))
    marked = np.zeros((64, 64), dtype)
    marked[8:24, 40:56] = True if dtype is bool else np.iinfo(dtype).max
    (tmp_path / "part" / "ground_truth" / "dent").mkdir(parents=True)
    Image.fromarray(marked).save(tmp_path / "part" / "ground_truth" / "dent" / "000_mask.png")
    got = read_mask(only_test_image(tmp_path), placed((64, 64)), (64, 64))
    np.testing.assert_array_equal(got, marked > 0)


def test_a_marked_square_lands_where_resize_and_crop_put_it(tmp_path):
    # 160 x 320 -> shorter side 80, so 80 x 160 -> central 64 x 64, corner (8, 48).
    save(tmp_path / "part" / "test" / "dent" / "000.png", size=(160, 320))
    save_mask(
        tmp_path / "part" / "ground_truth" / "dent" / "000_mask.png",
        size=(160, 320),
        box=(40, 120, 80, 200),
    )
    place = placed((160, 320), resize="shorter_side", resized=(80, 80))
    expected = np.zeros((64, 64), np.bool_)
    expected[20 - 8 : 40 - 8, 60 - 48 : 100 - 48] = True
    np.testing.assert_array_equal(read_mask(only_test_image(tmp_path), place, (64, 64)), expected)


@pytest.mark.parametrize(("top", "white"), [(1023, 1023), (1024, 4095), (9000, 16383)])
def test_the_white_level_is_found_in_the_training_images(tmp_path, top, white):
    for number in range(3):
        grey = np.random.default_rng(number).integers(0, top + 1, (40, 60)).astype(np.uint16)
        grey[0, 0] = top
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
    folder = list_images(tmp_path)
    storage = Storage(tmp_path, budget_bytes=2**30)
    auto = load_inputs(folder, tiny_config(white_level="auto"), storage)
    assert (auto.preprocessing.white_level, auto.notes) == (white, ())
    plain = load_inputs(folder, tiny_config(), storage)
    assert plain.preprocessing.white_level == 65535
    assert len(plain.notes) == (3 if top < 4096 else 0)
    named = load_inputs(folder, tiny_config(white_level=white), storage)
    assert np.array_equal(named.pixels, auto.pixels)


def test_images_of_8_bits_keep_the_usual_white_level(tmp_path):
    write_photos(tmp_path / "photos", 2)
    storage = Storage(tmp_path, budget_bytes=2**30)
    found = load_inputs(list_images(tmp_path / "photos"), tiny_config(white_level="auto"), storage)
    assert found.preprocessing.white_level == 65535


@pytest.mark.parametrize("value", [0, 254, 65536, "bright"])
def test_a_white_level_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="white_level"):
        tiny_config(white_level=value)
