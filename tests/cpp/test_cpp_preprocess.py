"""The C++ runner resizes and crops as FORMAT.md says: Pillow's filters, to the byte."""

import numpy as np
import pytest
from PIL import Image

from cpp_dump import attempt, dump, needs_dump, random_pixels
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.preprocess import fit_to_input
from patchcore_runtime.manifest.manifest import Preprocessing
from places import SHARED

FILTERS = ("bilinear", "bicubic", "lanczos")

pytestmark = needs_dump


def _settings(resize, size, filter_name, crop):
    return Preprocessing(
        resize=resize,
        resize_height=size[0],
        resize_width=size[1],
        filter=filter_name,
        height=crop[0],
        width=crop[1],
    )


def _fitted(image, settings):
    """The input by FORMAT.md: the width first, which Pillow 13 alone does not always do."""
    _, place = fit_to_input(image, settings)
    resample = Image.Resampling[settings.filter.upper()]
    wide = image.resize((place.resized_width, image.height), resample)
    whole = np.asarray(wide.resize((place.resized_width, place.resized_height), resample))
    top, left = place.top, place.left
    return whole[top : top + settings.height, left : left + settings.width], place


def _random_settings(rng, height, width):
    resize = str(rng.choice(["stretch", "shorter_side"]))
    size = tuple(int(side) for side in rng.integers(32, 300, 2))
    if rng.random() < 0.2:  # a side that keeps its length
        size = (max(32, height), size[1]) if rng.random() < 0.5 else (size[0], max(32, width))
    if resize == "shorter_side":
        size = (size[0], size[0])
    crop = tuple(int(rng.integers(32, side + 1)) for side in size)
    return _settings(resize, size, str(rng.choice(FILTERS)), crop)


@pytest.mark.parametrize("seed", range(4))
def test_any_size_and_filter_gives_the_same_bytes(tmp_path, seed):
    rng = np.random.default_rng(seed)
    requests, images = [], []
    for number in range(150):
        height, width = (int(np.exp(rng.uniform(np.log(8), np.log(700)))) for _ in range(2))
        images.append(Image.fromarray(random_pixels(rng, height, width)))
        path = tmp_path / f"{number}.png"
        images[-1].save(path, compress_level=0)
        requests.append((path, _random_settings(rng, height, width)))
    for (_, settings), image, ours in zip(requests, images, dump(requests), strict=True):
        theirs = attempt(_fitted, image, settings)
        if isinstance(theirs, str):
            assert ours.endswith(theirs.removeprefix("image"))
            continue
        assert ours[1] == list(vars(theirs[1]).values()), (image.size, settings)
        assert np.array_equal(ours[0], theirs[0]), (image.size, settings)


def test_the_python_runtime_keeps_the_order_of_the_format():
    rng = np.random.default_rng(0)
    for height, width in [(300, 40), (180, 70), (40, 300), (90, 90)]:
        image = Image.fromarray(random_pixels(rng, height, width))
        settings = _settings("stretch", (64, 96), "lanczos", (64, 96))
        assert np.array_equal(fit_to_input(image, settings)[0], _fitted(image, settings)[0])


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared with real photographs is absent")
@pytest.mark.parametrize("folder", ["mvtec/bottle/test/good", "mtd/magnetic_tile/test/good"])
def test_real_photographs_give_the_same_input(folder):
    paths = sorted((SHARED / "data" / folder).iterdir())[:12]
    assert paths
    choices = [
        _settings("stretch", (320, 320), "bilinear", (320, 320)),
        _settings("shorter_side", (256, 256), "bicubic", (224, 224)),
        _settings("stretch", (256, 256), "lanczos", (224, 224)),
    ]
    requests = [(path, settings) for path in paths for settings in choices]
    for (path, settings), ours in zip(requests, dump(requests), strict=True):
        assert np.array_equal(ours[0], _fitted(read_image(path), settings)[0]), (path, settings)
