"""Laws of image statistics: each responds to one kind of change and to no other."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from patchcore_build.features.normal_images import describe_normal
from patchcore_build.features.store import FeatureStore
from patchcore_runtime.image.statistics import Reference, compare, measure_image
from patchcore_runtime.manifest.monitoring import GROUPS, LEVELS

SIZE = (96, 128)


def scene(seed=0, *, down=0.0, right=0.0, gain=1.0, offset=0.0, tint=1.0):
    """Draw a bright disc with a texture on a dark ground, uint8 (96, 128, 3)."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    y, x = y - down, x - right
    disc = 1 / (1 + np.exp((np.hypot(y - 48, x - 64) - 30) / 4))
    texture = 0.1 * np.sin(y) * np.sin(x)
    noise = np.random.default_rng(seed).normal(0, 1.5, (*SIZE, 3))
    light = (60 + 100 * (disc + texture))[..., None] * np.array([tint, 1, 1])
    return np.clip(np.rint(gain * light + offset + noise), 0, 255).astype(np.uint8)


def layers(seed, *, channels=(24, 7), shift=0.0):
    rng = np.random.default_rng(seed)
    layer2 = shift + rng.standard_normal((1, channels[0], 12, 16))
    layer3 = rng.standard_normal((1, channels[1], 6, 8))
    return layer2.astype(np.float32), layer3.astype(np.float32)


@pytest.fixture(scope="module")
def reference():
    """Return the reference of twenty scenes."""
    return Reference.of(normal(20), ("layer2", "layer3"))


def normal(count):
    made = [layers(seed) for seed in range(count)]
    store = FeatureStore(
        layers=(
            np.concatenate([layer2.transpose(0, 2, 3, 1) for layer2, _ in made]),
            np.concatenate([layer3.transpose(0, 2, 3, 1) for _, layer3 in made]),
        ),
        upsampling="bilinear",
    )
    return describe_normal(np.stack([scene(seed) for seed in range(count)]), store)


def found(reference, image, **options):
    return compare(measure_image(image, layers(99, **options)), reference)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, 0), (-2, 0), (0, 4), (2.5, -3)])
def test_a_shift_is_measured_in_pixels(reference, down, right):
    values = found(reference, scene(50, down=down, right=right))
    assert values["row_shift"] == pytest.approx(down, abs=0.6)
    assert values["column_shift"] == pytest.approx(right, abs=0.6)


@pytest.mark.parametrize(("gain", "offset"), [(1.15, 0), (0.7, 0), (1, 20), (0.8, 30)])
def test_light_changes_brightness_but_neither_position_nor_likeness(reference, gain, offset):
    plain = found(reference, scene(50))
    lit = found(reference, scene(50, gain=gain, offset=offset))
    assert lit["brightness"] == pytest.approx(gain * plain["brightness"] + offset, rel=0.01)
    assert lit["contrast"] == pytest.approx(gain * plain["contrast"], rel=0.01)
    for name in ("row_shift", "column_shift"):
        assert lit[name] == pytest.approx(plain[name], abs=0.1)
    assert lit["likeness"] == pytest.approx(plain["likeness"], abs=0.01)
    assert plain["likeness"] > 0.99


def test_blur_changes_only_the_sharpness(reference):
    plain = scene(50)
    soft = np.asarray(Image.fromarray(plain).filter(ImageFilter.GaussianBlur(2)))
    before, after = found(reference, plain), found(reference, soft)
    assert after["sharpness"] < 0.7 * before["sharpness"]
    assert after["row_shift"] == pytest.approx(before["row_shift"], abs=0.1)
    assert after["likeness"] > 0.99


def test_warmth_is_red_over_blue(reference):
    values = found(reference, scene(50, tint=1.2))
    assert values["warmth"] - found(reference, scene(50))["warmth"] == pytest.approx(
        np.log(1.2), abs=0.01
    )


@pytest.mark.parametrize("image", [255 - scene(50), np.full((*SIZE, 3), 77, np.uint8)])
def test_an_unlike_image_has_no_position(reference, image):
    values = found(reference, image)
    assert values["likeness"] == values["row_shift"] == values["column_shift"] == 0


def test_another_image_has_a_low_likeness(reference):
    other = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    assert found(reference, other)["likeness"] < 0.2


def test_shifted_features_are_far(reference):
    assert found(reference, scene(50), shift=0.5)["layer2"] > 5
    assert found(reference, scene(50))["layer2"] < 2.5


def test_each_normal_image_is_compared_with_the_others():
    count = 7
    monitoring = normal(count)
    expected = []
    for left in range(count):
        kept = [seed for seed in range(count) if seed != left]
        parts = [np.array_split(layers(seed)[0].mean(axis=(0, 2, 3)), GROUPS) for seed in kept]
        means = np.array([[part.mean() for part in one] for one in parts])
        own = [part.mean() for part in np.array_split(layers(left)[0].mean(axis=(0, 2, 3)), GROUPS)]
        expected.append(np.sqrt(np.mean(((own - means.mean(0)) / means.std(0)) ** 2)))
    quantiles = np.quantile(expected, np.linspace(0, 1, LEVELS))
    np.testing.assert_allclose(monitoring.quantiles.layers[0], quantiles, rtol=1e-4)
    assert monitoring.images == count
    assert len(monitoring.layers[0].means) == GROUPS
    assert len(monitoring.layers[1].means) == 7  # as many as channels


def test_images_that_are_all_equal_are_described():
    store = FeatureStore(
        layers=(np.ones((3, 12, 16, 4), np.float32), np.ones((3, 6, 8, 4), np.float32)),
        upsampling="bilinear",
    )
    monitoring = describe_normal(np.stack([scene(0)] * 3), store)
    assert min(monitoring.layers[0].spreads) > 0
    assert max(monitoring.quantiles.layers[0]) == 0
    names = ("layer2", "layer3")
    measured = measure_image(scene(0), layers(0, channels=(4, 4)))
    compared = compare(measured, Reference.of(monitoring, names))
    assert list(compared) == list(monitoring.quantiles.named(names))


def test_cells_of_a_side_that_16_does_not_divide_differ_by_at_most_a_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (42, 98, 3), dtype=np.uint8)
    thumbnail = measure_image(pixels, layers(0)).thumbnail
    grey = pixels @ [0.299, 0.587, 0.114]
    assert thumbnail[0, 0] == pytest.approx(grey[:2, :6].mean())
    assert thumbnail[15, 15] == pytest.approx(grey[39:, 91:].mean())
