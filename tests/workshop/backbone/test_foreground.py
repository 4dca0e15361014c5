"""Laws of the foreground: the part in the middle is found, and all around it becomes zero."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import grey_dilation, grey_erosion

from patchcore_build import FitJob, fit, make_config
from patchcore_build.backbone.device import open_device
from patchcore_build.backbone.extractor import make_extractor, random_weights
from patchcore_build.backbone.foreground import Foreground, estimate_foreground, two_means
from patchcore_build.backbone.network import mindspore_network
from patchcore_build.errors import DatasetError, SettingError
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.selftest import run_selftest

SETTINGS = {"backbone": "resnet18", "layers": ("layer2",), "resize_px": 128}


def draw_parts(count, size=128, seed=0):
    """Bright discs with a texture before a dark, plain background."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    for _ in range(count):
        row, column = size / 2 + rng.uniform(-6, 6, 2)
        disc = np.hypot(y - row, x - column) < 0.3 * size
        light = np.where(disc, rng.integers(90, 256, (size, size)), rng.integers(0, 6, disc.shape))
        yield np.repeat(light[..., None], 3, axis=2).astype(np.uint8)


def draw_patches(seed=0, images=5, grid=(16, 20), channels=12):
    """Features of a part in the middle, another vector around it, and noise."""
    rng = np.random.default_rng(seed)
    part = np.zeros(grid, bool)
    part[3:-3, 3:-3] = True
    vectors = rng.standard_normal((2, channels)) * 3 + 5
    patches = vectors[part.astype(int)].transpose(2, 0, 1)[None]
    noise = rng.standard_normal((images, channels, *grid)) * 0.3
    return (patches + noise).astype(np.float32), part


@pytest.mark.parametrize("seed", range(5))
def test_two_means_leave_the_least_variance(seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(0, 1, 30), rng.normal(rng.uniform(1, 6), 1, 11)])
    ordered = np.sort(values)
    splits = [(ordered[:at], ordered[at:]) for at in range(1, len(ordered))]
    low, high = min(splits, key=lambda pair: sum(len(one) * one.var() for one in pair))
    np.testing.assert_allclose(two_means(values), (low.mean(), high.mean()), rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_part_is_what_lies_in_the_middle(seed):
    patches, part = draw_patches(seed)
    found = estimate_foreground(patches)
    value = np.einsum("nchw,c->nhw", patches, found.axis) + found.offset
    assert ((value > 0.5) == part).all()
    assert np.median(value[:, part]) > 1  # the ramp ends between the two groups
    assert np.median(value[:, ~part]) < 0


@pytest.mark.parametrize("kind", ["texture", "everywhere", "background in the middle"])
def test_images_without_a_part_are_refused(kind):
    patches, part = draw_patches()
    if kind == "texture":
        patches = np.random.default_rng(0).standard_normal(patches.shape).astype(np.float32)
    elif kind == "everywhere":
        patches[..., ::2] = patches[:, :, :1, :1]
        patches[..., 1::2] = patches[:, :, 8:9, 8:9]
    else:
        patches[..., 5:-5, 5:-5] = patches[:, :, :1, :1]
        assert not part.all()
    with pytest.raises(DatasetError, match=r"--foreground pca: expected images of a part .* got"):
        estimate_foreground(patches)


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("full-frame", {"backbone": "resnet18", "layers": ("layer3",)}),
        ("dino", {"layers": ("block1", "block2")}),
    ],
    ids=["one layer", "two blocks"],
)
def test_the_network_multiplies_its_layers_by_the_closed_mask(recipe, settings):
    open_device()
    side = {"full-frame": 128, "dino": 112}[recipe]
    config = make_config(recipe, **settings, foreground="pca")
    weights = random_weights(config.backbone, config.layers, seed=0)
    images = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), np.uint8)
    plain = mindspore_network(make_extractor(config, weights, height=side, width=side))(images)
    whole = np.concatenate(plain, axis=1)
    axis = np.random.default_rng(2).standard_normal(whole.shape[1]).astype(np.float32)
    value = np.einsum("nchw,c->nhw", whole.astype(np.float64), axis)
    low, high = np.quantile(value, [0.85, 0.95])
    found = Foreground(
        axis=(axis / (high - low)).astype(np.float32), offset=float(-low / (high - low))
    )
    mask = np.clip((value - low) / (high - low), 0, 1)
    mask = grey_dilation(mask, (1, 5, 5), mode="constant")
    mask = grey_erosion(mask, (1, 3, 3), mode="constant", cval=1)
    assert 0 < (mask > 0).mean() < 1
    cell = make_extractor(config, weights, height=side, width=side, foreground=found)
    for got, layer in zip(mindspore_network(cell)(images), plain, strict=True):
        expected = layer * mask[:, None]
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """An artifact with a mask, and the folder of its images."""
    folder = tmp_path_factory.mktemp("masked")
    for number, image in enumerate(draw_parts(6)):
        Image.fromarray(image).save(folder / f"{number}.png")
    config = make_config("full-frame", **SETTINGS, coreset_ratio=0.2, folds=2, foreground="pca")
    request = FitJob(
        images=folder, category="discs", weights="random", output=folder / "a", config=config
    )
    return fit(request)


def test_background_is_one_zero_row_and_scores_nothing(masked):
    artifact = Artifact.open(masked.artifact)
    assert artifact.manifest.config["foreground"] == "pca"
    assert 0.2 < masked.foreground_share < 0.8
    rows = artifact.memory_bank.whole_rows(np.arange(artifact.memory_bank.rows))
    assert (np.abs(rows).sum(axis=1) == 0).any()
    assert all(step.passed for step in run_selftest(artifact))
    detector = Detector.load(masked.artifact)
    (disc,) = draw_parts(1, seed=9)
    (layer,) = detector.features(disc)
    outside = (layer == 0).all(axis=1)[0]
    assert outside[0].all()
    assert not outside[8, 8]
    good = detector.predict(disc)
    assert good.patch_distances[outside].max() == 0
    assert good.patch_distances[~outside].min() > 0
    # A mark that the projection takes for background goes unseen there, but not on the part.
    disc[60:68, 60:68] = [255, 0, 0]
    assert detector.predict(disc).score > good.score


def test_an_image_without_its_part_is_all_background(masked):
    empty = np.zeros((128, 128, 3), np.uint8)
    result = Detector.load(masked.artifact).predict(empty)
    assert (result.score, result.verdict) == (0, "not_this_part")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": ("layer2", "layer3")}, "foreground: expected layers of one grid beside it"),
        ({"tile_px": 64}, "foreground: expected none beside --tile"),
        ({"feature_precision": "int8"}, "foreground: expected none for scattering, --network"),
        ({"backbone": "scattering", "layers": None}, "foreground: expected none for scattering"),
        ({"foreground": "otsu"}, "foreground: expected one of none, pca"),
    ],
)
def test_what_a_mask_cannot_stand_beside_is_refused(settings, words):
    with pytest.raises(SettingError, match=words):
        make_config("full-frame", **{**SETTINGS, "foreground": "pca", **settings})
