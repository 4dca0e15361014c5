"""Laws of regions: they equal those of a flood fill, with contours around them, at any position."""

import numpy as np
import pytest

from patchcore_runtime import Detector
from patchcore_runtime.explain.regions import TOLERANCE_PX, find_regions

SHAPES = [(1, 1), (1, 9), (9, 1), (7, 12), (40, 31)]


def flood_fill(mask):
    """Label 8-connected pixels by flood fill, (H, W); 0 outside the regions."""
    labels = np.zeros(mask.shape, int)
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        number, waiting = labels.max() + 1, [start]
        labels[start] = number
        while waiting:
            y, x = waiting.pop()
            for near in ((y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                inside = 0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1]
                if inside and mask[near] and not labels[near]:
                    labels[near] = number
                    waiting.append(near)
    return labels


def covered(contour, shape):
    """Return the pixels with their centres inside a polygon of (y, x), by crossings of a ray."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for (y0, x0), (y1, x1) in zip(contour, [*contour[1:], contour[0]], strict=True):
        if y0 == y1:
            continue
        crosses = (y > min(y0, y1)) & (y < max(y0, y1))
        inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def without_holes(region):
    """Return the region with its holes: background not connected to the outside by sides."""
    outside = np.pad(~region, 1, constant_values=True)
    reached = np.zeros_like(outside)
    reached[0, 0] = True
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= outside
        if np.array_equal(grown, reached):
            return ~reached[1:-1, 1:-1]
        reached = grown


def draw(shape, share, seed):
    rng = np.random.default_rng(seed)
    values = rng.random(shape).astype(np.float32)
    return np.where(rng.random(shape) < share, values + 1, values / 2).astype(np.float32)


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    return (np.sin(x / 11) * np.cos(y / 17) + 0.3 * np.sin(x / 5 + y / 9)).astype(np.float32)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_regions_are_those_of_a_flood_fill(shape, share):
    for seed in range(3):
        values = draw(shape, share, seed)
        mask = values > 0.9
        labels = flood_fill(mask)
        regions = find_regions(values, 0.9, tolerance_px=0)
        assert len(regions) == labels.max()
        assert sum(region.area for region in regions) == mask.sum()
        for region in regions:
            own = labels == labels[region.peak]
            assert labels[region.peak] > 0
            y, x = np.nonzero(own)
            assert region.box == (y.min(), x.min(), y.max() + 1, x.max() + 1)
            assert region.area == own.sum()
            assert region.peak_value == values[own].max()
            assert np.array_equal(covered(region.contour, shape), without_holes(own))


def test_a_hole_counts_neither_for_the_area_nor_for_the_contour():
    ring = np.zeros((9, 9), np.float32)
    ring[2:7, 2:7] = 1
    ring[4, 4] = 0
    (region,) = find_regions(ring, 0.5, tolerance_px=0)
    assert region.area == 24
    assert region.contour == ((2, 2), (2, 7), (7, 7), (7, 2))
    ring[4, 4] = 2  # an island inside a ring is a separate region
    ring[3:6, 3:6][ring[3:6, 3:6] == 1] = 0
    assert [one.area for one in find_regions(ring, 0.5)] == [1, 16]


def test_pixels_that_touch_at_a_corner_are_one_region():
    diagonal = np.eye(6, dtype=np.float32)
    for values in (diagonal, diagonal[::-1]):
        (region,) = find_regions(values, 0.5, tolerance_px=0)
        assert region.area == 6
        assert covered(region.contour, values.shape).sum() == 6


def test_moving_the_map_moves_the_regions_and_nothing_else():
    values = np.zeros((60, 70), np.float32)
    values[5:45, 8:48] = draw((40, 40), 0.4, 1)
    moved = np.roll(values, (7, 13), axis=(0, 1))
    before, after = find_regions(values, 0.9), find_regions(moved, 0.9)
    assert len(before) == len(after) > 3
    for one, other in zip(before, after, strict=True):
        assert other.box == tuple(np.add(one.box, (7, 13, 7, 13)))
        assert other.peak == tuple(np.add(one.peak, (7, 13)))
        assert (other.area, other.peak_value) == (one.area, one.peak_value)
        assert np.array_equal(other.contour, np.add(one.contour, (7, 13)))


def test_a_simplified_contour_has_few_corners_and_stays_within_the_tolerance():
    values = smooth(150, 210)
    exact, simple = find_regions(values, 0.5, tolerance_px=0), find_regions(values, 0.5)
    assert sum(len(one.contour) for one in simple) < sum(len(one.contour) for one in exact) / 3
    for one, few in zip(exact, simple, strict=True):
        assert set(few.contour) <= set(one.contour)
        corners, ends = np.array(one.contour, float), np.array(few.contour, float)
        gaps = [
            _distance(corners, start, end)
            for start, end in zip(ends, np.roll(ends, -1, axis=0), strict=True)
        ]
        assert np.min(gaps, axis=0).max() <= TOLERANCE_PX
        assert abs(covered(few.contour, values.shape).sum() - one.area) < 0.05 * one.area + 20


def _distance(points, start, end):
    along = end - start
    share = np.clip((points - start) @ along / (along @ along), 0, 1)
    return np.linalg.norm(points - start - share[:, None] * along, axis=1)


def test_the_highest_peak_comes_first_and_nothing_above_gives_nothing():
    values = smooth(80, 90)
    peaks = [one.peak_value for one in find_regions(values, 0.4)]
    assert peaks == sorted(peaks, reverse=True)
    assert len(peaks) > 2
    assert find_regions(values, float(values.max())) == ()  # equal is normal


def test_a_results_regions_are_those_of_its_map_on_the_photograph(own_artifact):
    detector = Detector.load(own_artifact)
    result = detector.predict(own_artifact / "selftest.png")
    assert result.is_anomalous
    laid = result.map_on(np.zeros((80, 120, 3), np.uint8))
    assert result.regions() == find_regions(laid, result.pixel_threshold)
    areas = sum(region.area for region in result.regions())
    assert areas == (laid > result.pixel_threshold).sum() > 0
