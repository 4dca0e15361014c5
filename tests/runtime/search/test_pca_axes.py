"""Laws of a bank's principal axes: the split is exact, and residual products are bounded."""

import numpy as np
import pytest

from patchcore_runtime.bank.memory_bank import MemoryBank, squared_lengths
from patchcore_runtime.bank.neighbours import nearest_rows
from patchcore_runtime.search import pca_axes
from patchcore_runtime.search.pca_axes import axes_of

SHAPES = [(1, 1), (3, 400), (50, 7), (300, 300), (9000, 20)]


def heavy_tailed(shape, spread=1.0, seed=3):
    drawn = np.random.default_rng(seed).standard_t(2, shape) * spread + 3
    return drawn.astype(np.float32)


def bank_of(rows, neighbours=2):
    """Split rows into the two layers of a bank; the second may have no channel."""
    first = -(-rows.shape[1] // 3)
    whole = rows.astype(np.float32)
    norms = squared_lengths(whole)
    return MemoryBank(
        layers=(rows[:, :first], rows[:, first:]),
        norms=norms,
        origins=np.zeros((len(rows), 3), np.int32),
        neighbours=nearest_rows(whole, norms, min(neighbours, len(rows))),
    )


def along_few(rows, channels, directions=10, noise=0.1, seed=1):
    rng = np.random.default_rng(seed)
    strong = rng.standard_normal((rows, directions)) @ rng.standard_normal((directions, channels))
    return (strong * 5 + rng.standard_normal((rows, channels)) * noise).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spread", [0.0, 1.0, 1e4])
def test_axes_are_orthonormal_and_the_centre_is_the_mean(shape, spread):
    rows = heavy_tailed(shape, spread)
    axes = axes_of(bank_of(rows))
    assert axes.axes.shape == (shape[1], axes.count)
    np.testing.assert_allclose(axes.axes.T @ axes.axes, np.eye(axes.count), atol=1e-5)
    sample = rows[:: -(-len(rows) // 4096)].astype(float)
    np.testing.assert_allclose(axes.centre, sample.mean(axis=0), rtol=1e-4, atol=1e-5 * spread)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spread", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_no_product_is_above_that_of_the_parts_and_the_lengths(shape, spread, precision):
    rows = heavy_tailed(shape, spread).clip(-6e4, 6e4).astype(precision)
    axes = axes_of(bank_of(rows))
    axes = axes.first(max(1, axes.count // 3))
    whole = bank_of(rows).whole_rows(slice(None))[:200]
    main, rest, squared = (part.astype(float) for part in axes.split(whole))
    centred = whole.astype(float) - axes.centre
    above = main @ main.T + np.outer(rest, rest) - centred @ centred.T
    assert (above >= -1e-5 * (squared[:, None] + squared)).all()
    np.testing.assert_allclose(squared, (centred**2).sum(axis=1), rtol=1e-5)


def test_the_first_axes_are_those_along_which_rows_vary_most():
    rows = along_few(4000, 120)
    axes = axes_of(bank_of(rows)).first(8)
    _, _, whole = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    overlap = np.linalg.norm(whole[:8] @ axes.axes, axis=1)
    assert overlap.min() > 0.95
    variances = axes.split(rows)[0].var(axis=0)
    assert (np.diff(variances) < 0).all()


def test_few_directions_take_few_axes_and_rows_without_any_take_most(monkeypatch):
    monkeypatch.setattr(pca_axes, "_LADDER", (8, 16, 64))
    few = axes_of(bank_of(along_few(3000, 100))).count
    none = axes_of(bank_of(np.random.default_rng(0).random((3000, 100), np.float32))).count
    assert (few, none) == (16, 100)


@pytest.mark.parametrize("neighbours", [1, 9], ids=["none is tabulated", "some are tabulated"])
def test_a_row_is_not_its_own_nearest(neighbours):
    rows = along_few(700, 30)
    tried = np.array([0, 5, 699])
    found = pca_axes._nearest_others(bank_of(rows, neighbours), tried)
    table = ((rows[tried, None].astype(float) - rows) ** 2).sum(axis=2)
    table[np.arange(3), tried] = np.inf
    np.testing.assert_allclose(found, table.min(axis=1), rtol=1e-3)
