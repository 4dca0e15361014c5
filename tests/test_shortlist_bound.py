"""Laws of splitting vectors: nothing is lost, and what rounding loses is known."""

import numpy as np
import pytest

from patchcore_runtime.shortlist_bound import LARGEST, split_of, split_rows

SHAPES = [(1, 1), (50, 7), (40, 300), (9, 1024)]


def heavy_tailed(shape, spread=1.0, seed=3):
    drawn = np.random.default_rng(seed).standard_t(2, shape) * spread + 3
    return drawn.astype(np.float32)


@pytest.mark.parametrize("shape", [*SHAPES, (9000, 20)])
def test_axes_are_orthonormal_and_the_centre_is_the_mean(shape):
    rows = heavy_tailed(shape)
    split = split_of(rows)
    assert split.axes.shape == (shape[1], min(16, shape[1]))
    np.testing.assert_allclose(split.axes.T @ split.axes, np.eye(split.main_columns), atol=1e-6)
    np.testing.assert_allclose(split.centre, rows.astype(float).mean(axis=0), rtol=1e-5)


def test_axes_take_what_varies_most():
    rng = np.random.default_rng(1)
    strong = rng.standard_normal((500, 10)) @ rng.standard_normal((10, 80)) * 5
    rows = (strong + rng.standard_normal((500, 80)) * 0.1).astype(np.float32)
    parts = split_rows(rows, split_of(rows))
    assert (parts.rest_lengths < 0.1 * np.sqrt(parts.squares)).mean() > 0.99


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spread", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_parts_make_the_row_again_but_for_the_stated_error(shape, spread, precision):
    rows = heavy_tailed(shape, spread).clip(-6e4, 6e4).astype(precision)
    split = split_of(rows)
    parts = split_rows(rows, split)
    centred = rows.astype(np.float32) - split.centre
    rest = centred - parts.main @ split.axes.T
    rounded = parts.rests.T * parts.scales[:, None].astype(float)
    lost = np.linalg.norm(rest - rounded, axis=1)
    assert (lost <= parts.errors + 1e-6 * parts.rest_lengths + 1e-30).all()  # of float32
    assert (np.linalg.norm(rest.astype(float), axis=1) <= parts.rest_lengths).all()
    assert np.abs(parts.rests.astype(int)).max() <= LARGEST
    assert (parts.errors <= parts.scales * np.sqrt(shape[1]) * 0.51).all()
    np.testing.assert_allclose(parts.squares, (centred.astype(float) ** 2).sum(axis=1), rtol=1e-5)
