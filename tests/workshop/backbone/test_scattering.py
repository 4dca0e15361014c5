"""Laws of the scattering backbone and of the whitening estimated from the images themselves."""

import numpy as np
import pytest
from mindspore import Tensor

from patchcore_build.backbone.device import open_device
from patchcore_build.backbone.extractor import Average, FeatureExtractor
from patchcore_build.backbone.scattering import Scattering, gabor_filters
from patchcore_build.backbone.whitening import augmented_view, estimate_whitening
from patchcore_build.export.graphs import compare_mindir, compare_onnx, export_mindir, export_onnx

H, W = 96, 128


def _images(count, seed=0):
    """Coloured blobs on coarse noise, uint8 (count, H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 200, (count, H // 8, W // 8, 3))
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2) + rng.normal(0, 12, (count, H, W, 3))
    return np.clip(fine, 0, 255).astype(np.uint8)


def _normalised(images):
    return ((images.astype(np.float32) / 255 - 0.45) / 0.225).transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def body():
    open_device()
    cell = Scattering().set_train(False)
    return lambda x: tuple(layer.asnumpy() for layer in cell(Tensor(np.ascontiguousarray(x))))


@pytest.fixture(scope="module")
def features():
    """What `estimate_whitening` is given: images -> averaged layers, identity whitening."""
    open_device()
    cell = _extractor()

    return lambda images: tuple(layer.asnumpy() for layer in cell(Tensor(images)))


def _extractor():
    after = [Average((H // cell_px, W // cell_px), 3, "counted") for cell_px in (8, 16)]
    return FeatureExtractor(Scattering(), after, half=False).set_train(False)


@pytest.fixture(scope="module")
def whitening(features):
    return estimate_whitening(features, _images(4), seed=7)


def test_every_gabor_ignores_the_mean_and_has_unit_absolute_sum():
    filters = gabor_filters()
    assert filters.shape == (8, 7, 7)
    np.testing.assert_allclose(filters.sum(axis=(1, 2)), 0, atol=1e-7)
    np.testing.assert_allclose(np.abs(filters).sum(axis=(1, 2)), 1, rtol=1e-6)


def test_a_quarter_turn_permutes_the_directions():
    filters = gabor_filters()
    np.testing.assert_allclose(
        np.rot90(filters[:4], -1, axes=(1, 2)), filters[4:], atol=1e-6, rtol=0
    )


def test_the_layers_have_strides_8_and_16_and_251_and_187_channels(body):
    layer2, layer3 = body(_normalised(_images(2)))
    assert layer2.shape == (2, 251, H // 8, W // 8)
    assert layer3.shape == (2, 187, H // 16, W // 16)
    assert np.isfinite(layer2).all()
    assert np.isfinite(layer3).all()


def _filtered(x, kernel):
    """Correlate each channel of (C, h, w) with one kernel, zeros around."""
    reach = len(kernel) // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape, axis=(1, 2))
    return np.einsum("cyxij,ij->cyx", windows, kernel, optimize=True)


def _pooled(x, times):
    row = np.array([1, 4, 6, 4, 1]) / 16
    for _ in range(times):
        x = _filtered(x, np.outer(row, row))[:, ::2, ::2]
    return x


def _modulus(x):
    squares = [np.abs(_filtered(x, gabor)) ** 2 for gabor in gabor_filters()]
    return np.sqrt(np.stack(squares, axis=1).reshape(-1, *x.shape[1:]) + 1e-6)


def _plain_layer(x, scale, pairs):
    """The scattering in double precision, one line for each kind of channel."""
    red, green, blue = x.astype(np.float64)
    light, colour = np.mean(x, axis=0)[None], np.stack([red - green, (red + green) / 2 - blue])
    channels = [0.5 * _pooled(light, scale), 0.5 * _pooled(colour, scale)]
    for j in range(scale - 3, scale):
        for image in [light] if j in {0, 3} else [light, colour]:
            first = _pooled(_modulus(_pooled(image, j)), scale - j)
            channels.append(0.1 * np.log(first / 0.004 + 1))
    for a, b in pairs:
        first = _modulus(_pooled(light, a))
        second = _pooled(_modulus(_pooled(first, b - a)), scale - b)
        total = _pooled(first, scale - a).repeat(8, axis=0)
        channels.append(0.35 * second / (total + 0.004))
    return np.concatenate(channels)


def test_the_layers_follow_the_recipe_written_plainly_in_numpy(body):
    images = _normalised(_images(2))
    layer2, layer3 = body(images)
    plain2 = _plain_layer(images[1], 3, [(0, 1), (0, 2), (1, 2)])
    plain3 = _plain_layer(images[1], 4, [(1, 3), (2, 3)])
    np.testing.assert_allclose(layer2[1], plain2, atol=2e-5)
    np.testing.assert_allclose(layer3[1], plain3, atol=2e-5)


def test_only_the_whitening_is_left_to_be_set():
    open_device()
    free = {p.name: p.shape for p in Scattering().trainable_params()}
    assert free == {"whiten2.weight": (251, 251, 1, 1), "whiten3.weight": (187, 187, 1, 1)}


def test_a_flat_image_shows_no_texture_whatever_its_brightness(body):
    levels = np.array([-1.5, 0.7], np.float32)[:, None, None, None]
    layer2, _ = body(np.broadcast_to(levels, (2, 3, H, W)))
    centre = layer2[:, :, H // 16, W // 16]  # farther from every border than a filter reaches
    np.testing.assert_allclose(centre[:, 0], [-0.75, 0.35], atol=1e-5)
    np.testing.assert_allclose(centre[:, 1:3], 0, atol=1e-6)
    # A modulus of nothing is its floor, 1e-3, a quarter of what counts as faint.
    np.testing.assert_allclose(centre[:, 3:59], 0.1 * np.log(1.25), atol=1e-4)
    np.testing.assert_allclose(centre[:, 59:], 0.35 * 0.001 / 0.005, atol=1e-4)


def test_a_grey_image_has_no_colour(body):
    grey = _normalised(_images(2)).mean(axis=1, keepdims=True)
    layer2, layer3 = body(np.broadcast_to(grey, (2, 3, H, W)))
    np.testing.assert_allclose(layer2[:, 1:3], 0, atol=1e-6)
    np.testing.assert_allclose(layer3[:, 1:3], 0, atol=1e-6)


def test_second_order_hardly_depends_on_contrast(body):
    images = _normalised(_images(1))
    layer2, _ = body(np.concatenate([images, 2 * images]))
    first, second = layer2[:, 3:59], layer2[:, 59:]
    assert (first[1] - first[0]).mean() > 0.05  # 0.1 log 2, less what is faint
    assert np.abs(second[1] - second[0]).mean() < 0.05 * second.mean()


def test_moving_the_image_by_16_px_moves_layer3_by_one_cell(body):
    wide = np.random.default_rng(3).standard_normal((1, 3, 192, 208)).astype(np.float32)
    _, still = body(wide[..., :192])
    _, moved = body(wide[..., 16:])
    # Cells 5 to 7 of 12 are farther than 66 px, the reach of all filters together, from a border.
    np.testing.assert_allclose(moved[..., 5:8, 5:7], still[..., 5:8, 6:8], atol=1e-5)
    assert np.abs(moved[..., 5:8, 5:7] - still[..., 5:8, 5:7]).max() > 1e-2


def test_each_image_of_a_batch_is_seen_alone(body):
    images = _normalised(_images(2))
    together, swapped = body(images), body(images[::-1])
    for layer, other in zip(together, swapped, strict=True):
        np.testing.assert_allclose(layer, other[::-1], atol=1e-6)


def test_the_exports_give_the_numbers_of_mindspore_for_another_batch(tmp_path, features):
    images = _images(3)
    expected = features(images)
    export_onnx(_extractor, tmp_path / "f.onnx", height=H, width=W)
    export_mindir(_extractor, tmp_path / "f.mindir", height=H, width=W)
    compare_onnx(tmp_path / "f.onnx", images, expected, tolerance=1e-4)
    compare_mindir(tmp_path / "f.mindir", images, expected, tolerance=1e-6)


def test_the_whitening_is_symmetric_and_positive_definite(whitening):
    assert [matrix.shape for matrix in whitening] == [(251, 251), (187, 187)]
    for matrix in whitening:
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix.astype(np.float64)).min() > 0


def test_views_of_an_image_move_closer_to_each_other_than_to_other_images(features, whitening):
    def ratio(matrix, layers):
        vectors = np.einsum("dc,nchw->ndhw", matrix, layers)
        within = np.square(vectors[0::2] - vectors[1::2]).mean()
        between = np.square(vectors[0::2] - np.roll(vectors[0::2], 1, axis=0)).mean()
        return within / between

    rng = np.random.default_rng(1)
    unseen = _images(4, seed=9)
    views = np.stack([augmented_view(image, rng) for image in unseen.repeat(2, axis=0)])
    for matrix, layers in zip(whitening, features(views), strict=True):
        assert ratio(matrix, layers) < 0.9 * ratio(np.eye(len(matrix)), layers)


def _block_means(views):
    """Stand-in features, (B, 3, h, w) and (B, 6, h/2, w/2)."""
    x = views.astype(np.float32).transpose(0, 3, 1, 2) / 255
    fine = x.reshape(len(views), 3, H // 8, 8, W // 8, 8).mean(axis=(3, 5))
    coarse = fine[:, :, ::2, ::2]
    return fine, np.concatenate([coarse, np.square(coarse)], axis=1)


def test_the_same_seed_gives_the_same_whitening_and_another_does_not():
    images = _images(3)
    first, again, other = (estimate_whitening(_block_means, images, seed=s) for s in (5, 5, 6))
    for layer in range(2):
        assert first[layer].tobytes() == again[layer].tobytes()
        assert first[layer].tobytes() != other[layer].tobytes()


def test_whitening_is_the_inverse_fourth_root_of_half_the_spread_of_view_differences():
    draws = np.random.default_rng(0)
    spread = np.array([1, 4, 16, 64], np.float32) ** 0.5  # each view's standard deviations

    def noise(views):
        assert views.shape[1:] == (H, W, 3)
        assert len(views) in (2, 4, 6, 8)  # whole pairs
        shape = (len(views), 4, 40, 50)
        layer = draws.standard_normal(shape, dtype=np.float32) * spread[:, None, None]
        return layer, 9 * layer

    layer2, layer3 = estimate_whitening(noise, _images(1).repeat(5, axis=0), seed=0)
    ridge = 0.1 * (1 + 4 + 16 + 64) / 4
    expected = np.diag((spread**2 + ridge) ** -0.25) / 2  # sqrt(C) = 2
    np.testing.assert_allclose(layer2, expected, atol=0.01)
    np.testing.assert_allclose(layer3, layer2 / 3, rtol=1e-4, atol=1e-7)


def test_at_most_thirty_images_are_looked_at_first_and_last_among_them():
    seen = []

    def record(views):
        seen.extend(int(np.median(pair)) for pair in views.reshape(-1, 2, H, W, 3))
        return _block_means(views)

    levels = np.linspace(30, 220, 45).astype(np.uint8)[:, None, None, None]
    estimate_whitening(record, np.broadcast_to(levels, (45, H, W, 3)), seed=0)
    assert len(seen) == 60
    assert min(seen[:2]) < 70
    assert max(seen[-2:]) > 150


def test_images_without_any_difference_still_give_a_finite_whitening():
    def constant(views):
        count = len(views)
        return np.ones((count, 3, 4, 4), np.float32), np.ones((count, 5, 2, 2), np.float32)

    for matrix in estimate_whitening(constant, _images(1), seed=0):
        assert np.isfinite(matrix).all()


def test_a_view_is_repeatable_and_brings_no_border_of_its_own():
    flat = np.full((H, W, 3), 130, np.uint8)
    for seed in range(8):
        view = augmented_view(flat, np.random.default_rng(seed))
        assert view.shape == flat.shape
        assert view.dtype == np.uint8
        np.testing.assert_array_equal(view, augmented_view(flat, np.random.default_rng(seed)))
        # A slope of light changes a side's mean by 5 %; a black border would take it to zero.
        sides = [view[0], view[-1], view[:, 0], view[:, -1]]
        assert all(abs(side.mean() - view.mean()) < 0.07 * view.mean() + 2 for side in sides)


def test_a_view_moves_the_image_by_a_few_pixels_only():
    rows, columns = np.mgrid[0:H, 0:W]
    dot = (np.hypot(rows - 30, columns - 50) < 8).astype(np.uint8) * 150 + 50
    for seed in range(8):
        view = augmented_view(dot[:, :, None].repeat(3, axis=2), np.random.default_rng(seed))
        light = view.mean(axis=2)
        inside = light > (light.min() + light.max()) / 2
        centre = np.array([rows[inside].mean(), columns[inside].mean()])
        assert np.abs(centre - (30, 50)).max() < 3 + 1.5 + 1  # shift, rotation and scale, slack


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, H, W, 3), np.float32),
        np.zeros((0, H, W, 3), np.uint8),
        np.zeros((2, H, W), "u1"),
    ],
)
def test_other_than_uint8_colour_images_are_refused(images):
    with pytest.raises(
        ValueError, match=r"^images: expected uint8 \(N, H, W, 3\) with N >= 1, got"
    ):
        estimate_whitening(_block_means, images, seed=0)
