"""Laws of heat maps: a colour means a value, good parts show no heat, files appear whole."""

import numpy as np
import pytest
from PIL import Image

from patchcore_runtime.explain.heatmap import (
    HeatmapScale,
    colorize,
    overlay,
    save_heatmap,
    with_legend,
)

SCALE = HeatmapScale(low=1.0, threshold=2.0, high=4.0)


def _photo(height=60, width=80, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _peak(height=60, width=80, *, value=5.0):
    """Make a map that is normal except for one smooth peak in the middle."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    distance2 = (y - height // 2) ** 2 + (x - width // 2) ** 2
    return (value * np.exp(-distance2 / (height * width / 60))).astype(np.float32)


def _ramp_oklab(count=256):
    """Compute OKLab coordinates of the colours from low to high, by the published transform."""
    values = np.linspace(SCALE.low, SCALE.high, count, dtype=np.float32)[None]
    coded = colorize(values, SCALE)[0] / 255.0
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.transpose(to_cones)) @ np.transpose(to_lab)


def test_lightness_grows_with_every_step_of_the_colour_map():
    lightness = _ramp_oklab()[:, 0]
    assert (np.diff(lightness) > 0).all()
    assert lightness[0] < 0.2
    assert lightness[-1] > 0.95


def test_lightness_steps_are_equal_up_to_8_bit_rounding():
    lightness = _ramp_oklab()[:, 0]
    line = np.linspace(lightness[0], lightness[-1], 256)
    assert np.abs(lightness - line).max() < 0.003  # one step is 0.0032


def test_neighbouring_colours_differ_about_equally_along_the_whole_map():
    lab = _ramp_oklab()
    distances = np.linalg.norm(lab[16:] - lab[:-16], axis=1)
    assert distances.max() / distances.min() < 1.4


def test_the_map_runs_from_blue_over_magenta_and_orange_to_pale_yellow():
    dark, magenta, orange, pale = colorize(np.float32([[1.0, 2.4, 3.2, 4.0]]), SCALE)[0].astype(int)
    assert dark[2] > dark[0]
    assert magenta[1] < min(magenta[0], magenta[2])
    assert orange[0] > orange[1] > orange[2]
    assert pale[0] > 230
    assert pale[1] > 230
    assert pale[2] < pale[1]


def test_a_value_has_the_same_colour_whatever_else_the_map_holds():
    calm, wild = np.full((3, 4), 2.5, np.float32), np.full((3, 4), -7.0, np.float32)
    wild[0, 0], wild[2, 3] = 2.5, 1e6
    assert (colorize(calm, SCALE)[0, 0] == colorize(wild, SCALE)[0, 0]).all()


def test_values_beyond_the_ends_take_the_colours_of_the_ends():
    colours = colorize(np.float32([[-1e30, 1.0, 4.0, 1e30]]), SCALE)[0]
    assert (colours[0] == colours[1]).all()
    assert (colours[2] == colours[3]).all()


def test_colours_follow_the_value_linearly_between_the_ends():
    every = colorize(np.linspace(1, 4, 256, dtype=np.float32)[None], SCALE)[0]
    assert (colorize(np.float32([[2.0]]), SCALE)[0, 0] == every[85]).all()


def test_close_limits_around_large_values_are_not_rounded_away():
    base = 2.0**24  # float32 represents only even numbers from here on
    scale = HeatmapScale(low=base + 1, threshold=base + 3, high=base + 9)
    plain = HeatmapScale(low=1.0, threshold=3.0, high=9.0)
    values = np.float32([[2, 4, 6, 8]])
    assert (colorize(values + np.float32(base), scale) == colorize(values, plain)).all()


def test_a_good_part_shows_no_heat():
    photo, quiet = _photo(), np.linspace(0.0, 1.0, 60 * 80, dtype=np.float32).reshape(60, 80)
    shown = overlay(photo, quiet, SCALE)
    grey = np.asarray(Image.fromarray(photo).convert("L"), dtype=np.float32)
    assert (shown[..., 0] == shown[..., 1]).all()
    assert (shown[..., 1] == shown[..., 2]).all()
    assert np.abs(shown[..., 0] - 0.7 * grey).max() <= 0.5


def test_heat_covers_more_of_the_photograph_the_higher_the_value():
    bright, dark = np.full((1, 50, 3), 255, np.uint8), np.zeros((1, 50, 3), np.uint8)
    ramp = np.linspace(1.0, 4.0, 50, dtype=np.float32)[None]
    seen = overlay(bright, ramp, SCALE, contour=False).astype(int)
    covered = seen - overlay(dark, ramp, SCALE, contour=False)
    assert (np.diff(covered[0, :, 0]) <= 1).all()  # 1: rounding
    assert covered[0, 0, 0] > 150
    assert covered[0, -1, 0] < 40


def test_the_contour_runs_only_where_the_map_crosses_the_threshold():
    photo, peak = _photo(), _peak()
    lined, plain = overlay(photo, peak, SCALE), overlay(photo, peak, SCALE, contour=False)
    drawn = (lined != plain).any(axis=2)
    above = peak > SCALE.threshold
    beside = np.zeros_like(above)
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        beside |= np.roll(above, (dy, dx), axis=(0, 1))
    assert (drawn == (beside & ~above)).all()
    assert drawn.any()


@pytest.mark.parametrize("value", [1.9, 2.0])
def test_no_contour_is_drawn_when_nothing_exceeds_the_threshold(value):
    photo, stepped = _photo(), np.zeros((60, 80), np.float32)
    stepped[20:40] = value
    assert (overlay(photo, stepped, SCALE) == overlay(photo, stepped, SCALE, contour=False)).all()


def test_even_one_pixel_above_the_threshold_is_encircled():
    dot = np.zeros((60, 80), np.float32)
    dot[30, 40] = 2.1
    ring = (overlay(np.zeros((60, 80, 3), np.uint8), dot, SCALE) == 255).all(axis=2)
    assert ring.sum() >= 4
    assert not ring[30, 40]


def test_the_contour_grows_thicker_with_the_image():
    def thickness(side):
        half = np.zeros((side, side), np.float32)
        half[:, side // 2 :] = 3.0
        shown = overlay(np.zeros((side, side, 3), np.uint8), half, SCALE)
        return int((shown == 255).all(axis=2)[0].sum())

    assert thickness(100) == 1
    assert thickness(1000) == 5


def test_inputs_are_unchanged():
    photo, peak = _photo(), _peak()
    photo_before, peak_before = photo.copy(), peak.copy()
    with_legend(overlay(photo, peak, SCALE), SCALE, title="x")
    assert (photo == photo_before).all()
    assert (peak == peak_before).all()


@pytest.mark.parametrize("shape", [(1, 1), (100, 100), (40, 900), (900, 40)])
def test_the_legend_keeps_every_pixel_of_the_image(shape):
    image = _photo(*shape)
    framed = with_legend(image, SCALE)
    windows = np.lib.stride_tricks.sliding_window_view(framed, (*shape, 3))[:, :, 0]
    corner = windows[..., 0, 0, :] == image[0, 0]
    candidates = np.argwhere(corner.all(axis=-1))
    assert any((windows[y, x] == image).all() for y, x in candidates)


def test_the_legend_draws_text_and_every_colour_of_the_bar():
    blank = np.full((300, 300, 3), 255, np.uint8)
    bare, titled = with_legend(blank, SCALE), with_legend(blank, SCALE, title="plate 7")
    assert titled.shape[0] > bare.shape[0]
    assert (titled[:20] != 255).any()
    colours = {tuple(colour) for colour in bare.reshape(-1, 3).tolist()}
    ramp = np.linspace(1.2, 3.8, 20, dtype=np.float32)[None]
    shown = [tuple(colour) in colours for colour in colorize(ramp, SCALE)[0].tolist()]
    assert np.mean(shown) > 0.9  # the threshold's notch hides a few


def test_legends_of_different_scales_look_different_even_in_late_digits():
    blank = np.full((200, 200, 3), 255, np.uint8)
    one = with_legend(blank, HeatmapScale(low=1.00001, threshold=1.00002, high=1.00003))
    other = with_legend(blank, HeatmapScale(low=1.00001, threshold=1.00002, high=1.00004))
    assert one.shape != other.shape or (one != other).any()


def test_a_title_of_any_length_or_with_line_breaks_keeps_the_size():
    blank = np.full((120, 120, 3), 255, np.uint8)
    short = with_legend(blank, SCALE, title="a")
    assert with_legend(blank, SCALE, title="long " * 99).shape == short.shape
    assert with_legend(blank, SCALE, title="two\nlines").shape == short.shape


def test_a_saved_heat_map_is_a_png_that_holds_the_photograph(tmp_path):
    photo = _photo()
    save_heatmap(tmp_path / "part.png", photo, _peak(), SCALE, title="part")
    with Image.open(tmp_path / "part.png") as saved:
        assert saved.format == "PNG"
        pixels = np.asarray(saved)
    assert pixels.shape[1] > 2 * photo.shape[1]
    windows = np.lib.stride_tricks.sliding_window_view(pixels, photo.shape)[:, :, 0]
    corner = (windows[..., 0, 0, :] == photo[0, 0]).all(axis=-1)
    assert any((windows[y, x] == photo).all() for y, x in np.argwhere(corner))


def test_the_same_inputs_give_the_same_bytes_and_replace_the_older_file(tmp_path):
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    second.write_bytes(b"older")
    for path in (first, second):
        save_heatmap(path, _photo(), _peak(), SCALE)
    assert first.read_bytes() == second.read_bytes()


def test_a_write_that_fails_leaves_neither_the_file_nor_a_part_of_it(tmp_path):
    taken = tmp_path / "taken.png"
    taken.mkdir()
    with pytest.raises(OSError, match="taken"):
        save_heatmap(taken, _photo(), _peak(), SCALE)
    with pytest.raises(ValueError, match="expected the photograph's shape"):
        save_heatmap(tmp_path / "x.png", _photo(), _peak(8, 8), SCALE)
    assert list(tmp_path.iterdir()) == [taken]


def test_other_endings_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"part\.jpg: expected a name ending in \.png"):
        save_heatmap(tmp_path / "part.jpg", _photo(), _peak(), SCALE)
    with pytest.raises(FileNotFoundError, match="expected an existing folder"):
        save_heatmap(tmp_path / "none" / "part.png", _photo(), _peak(), SCALE)


@pytest.mark.parametrize(
    ("low", "threshold", "high"),
    [
        (1.0, 1.0, 2.0),
        (1.0, 2.0, 2.0),
        (2.0, 1.0, 3.0),
        (float("nan"), 1.0, 2.0),
        (0.0, float("nan"), 2.0),
        (0.0, 1.0, float("inf")),
        (float("-inf"), 1.0, 2.0),
    ],
)
def test_a_scale_out_of_order_or_not_finite_is_refused(low, threshold, high):
    with pytest.raises(ValueError, match="expected finite low < threshold < high"):
        HeatmapScale(low=low, threshold=threshold, high=high)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_maps_that_are_not_finite_are_refused(bad):
    broken = _peak()
    broken[3, 4] = bad
    with pytest.raises(ValueError, match="look for NaN or infinity"):
        colorize(broken, SCALE)
    with pytest.raises(ValueError, match="look for NaN or infinity"):
        overlay(_photo(), broken, SCALE)


@pytest.mark.parametrize("shape", [(4,), (4, 4, 1), (0, 4)])
def test_maps_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected finite values of shape \(H, W\)"):
        colorize(np.zeros(shape, np.float32), SCALE)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_images_that_are_not_8_bit_rgb_are_refused(image):
    with pytest.raises(ValueError, match=r"image: expected uint8 \(H, W, 3\)"):
        overlay(image, np.zeros(image.shape[:2], np.float32), SCALE)
    with pytest.raises(ValueError, match=r"image: expected uint8 \(H, W, 3\)"):
        with_legend(image, SCALE)
