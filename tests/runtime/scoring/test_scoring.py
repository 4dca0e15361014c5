"""Laws of scores and maps, compared with SciPy, Pillow and the formulas in float64."""

import math

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from patchcore_runtime.manifest.manifest import Scoring
from patchcore_runtime.scoring.rules import (
    anomaly_map,
    gaussian_matrix,
    map_matrix,
    modelzoo_score,
    paper_score,
    upsampling_matrix,
)

SIZES = [(8, 1), (64, 8), (96, 12), (224, 28), (12, 6), (28, 14), (7, 3)]


def _distances(height, width, seed=0):
    return np.random.default_rng(seed).gamma(2.0, 1.0, (height, width)).astype(np.float32)


@pytest.mark.parametrize(("size", "cells"), SIZES)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_upsampling_weights_are_means(size, cells, mode):
    matrix = upsampling_matrix(size, cells, mode)
    assert matrix.shape == (size, cells)
    assert matrix.dtype == np.float32
    assert (matrix >= 0).all()
    assert matrix.sum(axis=1) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("size", "cells"), SIZES)
def test_bilinear_upsampling_is_pillows(size, cells):
    values = _distances(cells, 1)
    expected = Image.fromarray(values).resize((1, size), Image.Resampling.BILINEAR)
    assert upsampling_matrix(size, cells) @ values == pytest.approx(np.asarray(expected), rel=1e-5)


@pytest.mark.parametrize(("size", "cells"), SIZES)
def test_bilinear_upsampling_is_scipys_grid_zoom(size, cells):
    values = _distances(cells, 1)[:, 0].astype(np.float64)
    expected = ndimage.zoom(values, size / cells, order=1, mode="nearest", grid_mode=True)
    assert upsampling_matrix(size, cells) @ values == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("cells", [1, 6, 14])
def test_nearest_upsampling_by_two_repeats_each_cell(cells):
    expected = np.repeat(np.eye(cells), 2, axis=0)
    assert np.array_equal(upsampling_matrix(2 * cells, cells, "nearest"), expected)


@pytest.mark.parametrize("sigma_px", [0.4, 1.0, 1.4, 4.0, 5.7, 30.0])
@pytest.mark.parametrize("size", [8, 33, 64])
def test_the_blur_is_scipys_gaussian_with_reflecting_border(size, sigma_px):
    values = _distances(size, 1)[:, 0].astype(np.float64)
    expected = ndimage.gaussian_filter1d(values, sigma_px, mode="reflect", truncate=4.0)
    assert gaussian_matrix(size, sigma_px) @ values == pytest.approx(expected, rel=1e-9)


def rule(sigma_px, *, upsampling="bilinear", border="repeated"):
    return Scoring(
        image_score="max",
        distance="euclidean",
        sigma_px=sigma_px,
        map_upsampling=upsampling,
        map_border=border,
    )


@pytest.mark.parametrize(
    ("height", "width", "sigma_px"), [(8, 12, 1.4), (28, 28, 4.0), (5, 3, 9.0)]
)
def test_a_map_is_the_blurred_bilinear_image_of_the_distances(height, width, sigma_px):
    distances = _distances(height, width)
    fine = ndimage.zoom(distances.astype(float), 8, order=1, mode="nearest", grid_mode=True)
    expected = ndimage.gaussian_filter(fine, sigma_px, mode="reflect")
    rows, columns = (map_matrix(8 * cells, cells, rule(sigma_px)) for cells in (height, width))
    got = anomaly_map(distances, rows, columns)
    assert got.dtype == np.float32
    assert got.shape == (8 * height, 8 * width)
    assert got == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize(("size", "sigma_px"), [(8, 1.4), (3, 9.0), (2, 4.0), (1, 4.0)])
def test_a_mirrored_border_does_not_repeat_its_last_pixel(size, sigma_px):
    values = np.random.default_rng(3).random(size)
    expected = ndimage.gaussian_filter1d(values, sigma_px, mode="mirror", truncate=4.0)
    got = gaussian_matrix(size, sigma_px, "mirrored") @ values
    assert got == pytest.approx(expected, rel=1e-9)


def test_a_map_of_nearest_upsampling_repeats_every_patch():
    distances = _distances(4, 6)
    expected = ndimage.gaussian_filter(
        distances.repeat(14, axis=0).repeat(14, axis=1).astype(float), 5.0, mode="mirror"
    )
    scoring = rule(5.0, upsampling="nearest", border="mirrored")
    rows, columns = map_matrix(56, 4, scoring), map_matrix(84, 6, scoring)
    assert anomaly_map(distances, rows, columns) == pytest.approx(expected, rel=2e-6)


def test_a_flat_map_stays_flat_and_none_exceeds_its_distances():
    rows, columns = map_matrix(64, 8, rule(4.0)), map_matrix(96, 12, rule(4.0))
    flat = anomaly_map(np.full((8, 12), 2.5, np.float32), rows, columns)
    assert flat == pytest.approx(2.5, rel=1e-5)
    distances = _distances(8, 12)
    smooth = anomaly_map(distances, rows, columns)
    assert distances.min() <= smooth.min()
    assert smooth.max() <= distances.max()


def test_a_map_mirrors_with_its_distances():
    rows, columns = map_matrix(64, 8, rule(1.4)), map_matrix(96, 12, rule(1.4))
    distances = _distances(8, 12)
    there = anomaly_map(distances, rows, columns)
    mirrored = anomaly_map(distances[::-1, ::-1].copy(), rows, columns)
    assert mirrored[::-1, ::-1] == pytest.approx(there, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_paper_score_is_equation_seven(seed):
    rng = np.random.default_rng(seed)
    nearest = rng.uniform(0.5, 5)
    distances = np.concatenate([[nearest], nearest + rng.gamma(1, 1, 8)])
    exact = (1 - math.exp(nearest) / np.exp(distances).sum()) * nearest
    assert paper_score(nearest, distances.astype(np.float32)) == pytest.approx(exact, rel=1e-5)


def test_the_paper_score_needs_no_order_among_neighbours():
    distances = np.array([2.0, 3.0, 2.5, 4.0])
    expected = paper_score(2.0, distances)
    assert paper_score(2.0, distances[::-1].copy()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_modelzoo_score_is_its_published_formula_where_that_does_not_overflow(seed):
    squares = np.sort(np.random.default_rng(seed).uniform(0.5, 30, 9))
    powers = np.exp(squares)
    exact = (1 - powers.max() / powers.sum()) * squares[0]
    assert modelzoo_score(squares) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_large_distances_do_not_overflow(scale):
    equal = np.full(9, scale, np.float32)
    assert paper_score(scale, equal) == pytest.approx(scale * 8 / 9, rel=1e-5)
    assert modelzoo_score(equal) == pytest.approx(scale * 8 / 9, rel=1e-5)
    spread = np.linspace(scale, 2 * scale, 9, dtype=np.float32)
    assert paper_score(scale, spread) == pytest.approx(scale, rel=1e-5)
    assert modelzoo_score(spread) == pytest.approx(0, abs=scale * 1e-5)


@pytest.mark.parametrize("distance", [0.0, 1e-3, 2.0, 1e3, 1e9, 1e18, 1e30])
@pytest.mark.parametrize("rounding", [1 - 1e-6, 1.0, 1 + 1e-6])
def test_the_paper_score_lies_between_zero_and_the_distance(distance, rounding):
    neighbours = np.full(9, distance * rounding, np.float32)
    assert 0 <= paper_score(distance, neighbours) <= distance


def test_with_one_row_the_score_is_the_distance_itself():
    assert paper_score(3.25, np.array([3.25], np.float32)) == 3.25
    assert modelzoo_score(np.array([7.5], np.float32)) == 7.5


def test_a_part_that_lies_in_the_bank_scores_zero():
    assert paper_score(0.0, np.array([0.0, 1.0, 2.0])) == 0
    assert modelzoo_score(np.array([0.0, 1.0, 2.0])) == 0


def test_an_isolated_nearest_row_raises_the_paper_score():
    near = paper_score(2.0, np.array([2.0, 2.1, 2.2]))
    far = paper_score(2.0, np.array([2.0, 5.1, 5.2]))
    assert near < far < 2.0
