"""Laws of the table of neighbours and of the greedy cover: updated tables equal new ones."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from patchcore_runtime.bank.memory_bank import squared_lengths
from patchcore_runtime.bank.neighbours import (
    distances_to_nearest,
    nearest_rows,
    with_new_rows,
    without_rows,
)
from patchcore_runtime.edit.cover import extend_cover


def draw(rows, *, dim=7, seed=0, spread=1.0):
    """Draw whole numbers, which have exact distances with many ties."""
    rng = np.random.default_rng(seed)
    bank = np.rint(rng.standard_normal((rows, dim)) * 3 * spread).astype(np.float32)
    return bank, np.einsum("md,md->m", bank, bank)


def plain(bank, count):
    """Compute the table by its definition: the row itself, then by distance, then by number."""
    table = np.empty((len(bank), count), np.int32)
    for row, vector in enumerate(bank.astype(np.float64)):
        squares = ((bank - vector) ** 2).sum(axis=1)
        squares[row] = -1
        table[row] = np.lexsort((np.arange(len(bank)), squares))[:count]
    return table


@pytest.mark.parametrize(("rows", "count"), [(1, 1), (5, 5), (600, 4), (1100, 9)])
def test_the_table_is_the_definition(rows, count):
    bank, norms = draw(rows)
    assert np.array_equal(nearest_rows(bank, norms, count), plain(bank, count))
    wanted = np.arange(rows)[:: max(1, rows // 7)]
    some = nearest_rows(bank, norms, count, wanted=wanted)
    assert np.array_equal(some, plain(bank, count)[wanted])


@pytest.mark.parametrize("spread", [1.0, 4.0])
@pytest.mark.parametrize("new", [1, 40, 700])
def test_a_table_with_new_rows_is_the_table_of_the_larger_bank(new, spread):
    old, norms = draw(600)
    bank = np.concatenate([old, draw(new, seed=1, spread=spread)[0]])
    mended = with_new_rows(bank, np.einsum("md,md->m", bank, bank), nearest_rows(old, norms, 5))
    assert np.array_equal(mended, plain(bank, 5))


@pytest.mark.parametrize("gone", [1, 100, 597])
def test_a_table_without_rows_is_the_table_of_the_smaller_bank(gone):
    bank, norms = draw(600)
    kept = np.sort(np.random.default_rng(2).permutation(600)[gone:])
    mended = without_rows(bank[kept], norms[kept], nearest_rows(bank, norms, 5), kept)
    assert np.array_equal(mended, plain(bank[kept], min(5, len(kept))))


def one_at_a_time(points, distances, radius):
    gaps = distances.astype(np.float64) ** 2
    picked = []
    while len(gaps) and gaps.max() > radius**2:
        picked.append(int(gaps.argmax()))
        gaps = np.minimum(gaps, ((points - points[picked[-1]].astype(np.float64)) ** 2).sum(axis=1))
    return picked


@pytest.mark.parametrize("count", [1, 30, 2000])
@pytest.mark.parametrize("radius", [1.5, 4.0, 9.0])
def test_the_cover_picks_the_rows_of_the_plain_loop(count, radius):
    points = np.random.default_rng(count).standard_normal((count, 5)).astype(np.float32) * 3 + 50
    distances = np.random.default_rng(3).uniform(5, 20, count).astype(np.float32)
    assert extend_cover(points, distances, radius).tolist() == one_at_a_time(
        points, distances, radius
    )


def test_every_point_is_covered_in_the_end_and_no_pick_was_needless():
    points = np.random.default_rng(5).standard_normal((1500, 6)).astype(np.float32)
    distances = np.full(1500, 3.0, np.float32)
    picks = extend_cover(points, distances, 1.0)
    apart = np.linalg.norm(points[:, None] - points[picks], axis=2)
    assert apart.min(axis=1).max() <= 1.0 + 1e-4
    among = apart[picks]
    assert among[~np.eye(len(picks), dtype=bool)].min() > 1.0 - 1e-4


def test_points_within_the_radius_need_no_row():
    points = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    assert len(extend_cover(points, np.full(50, 0.9, np.float32), 1.0)) == 0
    assert len(extend_cover(points[:0], np.empty(0, np.float32), 1.0)) == 0


@pytest.mark.parametrize("count", [1, 511, 512, 513, 1300])
def test_the_distance_to_the_nearest_row_is_the_one_of_all_differences(count):
    rng = np.random.default_rng(count)
    vectors, rows = (rng.standard_normal((size, 7)).astype(np.float32) for size in (count, 40))
    found = distances_to_nearest(vectors, rows, squared_lengths(rows))
    np.testing.assert_allclose(found, cdist(vectors, rows).min(axis=1), rtol=1e-5)
    assert distances_to_nearest(rows, rows, squared_lengths(rows)).max() == 0
