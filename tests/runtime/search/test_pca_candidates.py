"""Laws of the candidates: the nearest rows are found with any valid bounds and in any order."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from patchcore_runtime.search.pca_candidates import Shortlist

PATCHES, ROWS, SIDES = 20, 300, (3, 4)


def draw(count, seed, *, whole_numbers=False):
    rng = np.random.default_rng(seed)
    if whole_numbers:
        return [rng.integers(0, 2, (count, side)).astype(np.float32) for side in SIDES]
    return [rng.standard_normal((count, side)).astype(np.float32) for side in SIDES]


def shortlist_of(bank, patches):
    squared = sum((layer**2).sum(axis=1) for layer in patches)
    return Shortlist(bank, patches, squared, np.full(PATCHES, 1e-4, np.float32))


def scores_of(bank, patches):
    left, right = np.concatenate(patches, axis=1), np.concatenate(bank, axis=1)
    return left @ right.T - (right**2).sum(axis=1) / 2


@pytest.mark.parametrize("excess", [0.0, 0.5, 100.0])
@pytest.mark.parametrize("parts", [1, 7])
@pytest.mark.parametrize("whole_numbers", [False, True], ids=["any numbers", "many equal rows"])
def test_the_nearest_rows_are_found_and_ties_go_to_the_first(excess, parts, whole_numbers):
    bank, patches = (draw(n, s, whole_numbers=whole_numbers) for n, s in ((ROWS, 1), (PATCHES, 2)))
    rng = np.random.default_rng(3)
    shortlist = shortlist_of(bank, patches)
    bounds = scores_of(bank, patches) + excess * rng.random((PATCHES, ROWS), np.float32)
    pairs = rng.permutation(PATCHES * ROWS)
    for part in np.array_split(pairs, parts):
        own, rows = np.divmod(part, ROWS)
        shortlist.add(own, rows, bounds[own, rows])
    shortlist.settle()
    table = cdist(np.concatenate(patches, axis=1), np.concatenate(bank, axis=1), "sqeuclidean")
    np.testing.assert_allclose(shortlist.nearest, table.min(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(shortlist.winners, table.argmin(axis=1))


def test_tight_bounds_leave_little_to_measure(monkeypatch):
    measured = []
    original = Shortlist._measure

    def counting(self, patches, rows):
        measured.append(len(rows))
        original(self, patches, rows)

    monkeypatch.setattr(Shortlist, "_measure", counting)
    bank, patches = draw(ROWS, 1), draw(PATCHES, 2)
    shortlist = shortlist_of(bank, patches)
    own, rows = np.divmod(np.arange(PATCHES * ROWS), ROWS)
    shortlist.add(own, rows, scores_of(bank, patches)[own, rows])
    assert not shortlist.is_longer_than(0)
    shortlist.settle()
    assert sum(measured) == PATCHES


def test_excluded_pairs_are_not_counted():
    bank, patches = draw(ROWS, 1), draw(PATCHES, 2)
    bounds = scores_of(bank, patches)
    worst_first = np.argsort(bounds, axis=1)
    shortlist = shortlist_of(bank, patches)
    for column in range(0, ROWS, 50):
        rows = worst_first[:, column : column + 50]
        own = np.repeat(np.arange(PATCHES), rows.shape[1])
        shortlist.add(own, rows.ravel(), bounds[own, rows.ravel()] + 0.01)
    assert shortlist.is_longer_than(0)
    assert not shortlist.is_longer_than(3 * PATCHES)
