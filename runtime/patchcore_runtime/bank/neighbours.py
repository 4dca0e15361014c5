"""The table N_b of eq. 7: the K nearest rows of each bank row, computed or updated.

rows (M, D) -> (M, K). An edit of a bank changes the lists of only a few rows: those near a new row,
and those that contain a removed row. Only these lists are computed again, over the whole bank.
"""

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import squared_lengths

_BLOCK = 512
_PAIRS_AT_ONCE = 2**22  # each takes about 10 bytes, or 50 if all distances are equal
_GROUP = 64  # numbers whose minimum is an upper bound of the smallest
SLACK = 1e-5  # share of |a|² + |b|² that exceeds the float32 rounding error of a squared distance
_VECTORS_AT_ONCE = 512  # of `distances_to_nearest`


def nearest_rows(
    bank: NDArray[np.float32],
    norms: NDArray[np.float32],
    count: int,
    *,
    wanted: NDArray[np.int64] | None = None,
) -> NDArray[np.int32]:
    """Find the nearest rows of each row: itself first, then by distance, then by number.

    Args:
        bank: Whole rows, (M, D).
        norms: Their squared lengths, (M,).
        count: K, 1 <= K <= M.
        wanted: Numbers of the rows whose lists are computed; None: all rows.

    Returns:
        Row numbers, (M, K), or one list for each wanted row.
    """
    rows = np.arange(len(bank)) if wanted is None else wanted
    nearest = np.empty((len(rows), count), np.int32)
    step = max(1, min(_BLOCK, _PAIRS_AT_ONCE // len(bank)))
    for start in range(0, len(rows), step):
        own = rows[start : start + step]
        squares = norms - 2 * (bank[own] @ bank.T)
        squares[np.arange(len(own)), own] = -np.inf
        nearest[start : start + len(own)] = _smallest(squares, count)
    return nearest


def _smallest(squares: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Find the columns of the `count` smallest numbers of each row, ascending; ties by column."""
    groups = squares.shape[1] // _GROUP
    bound = squares
    # The minima of groups are numbers of the row, so the K-th minimum is an upper bound of the
    # row's K-th smallest number.
    if groups >= count:
        whole = squares[:, : groups * _GROUP].reshape(len(squares), _GROUP, groups)
        bound = whole.min(axis=1)
    farthest = np.partition(bound, count - 1, axis=1)[:, count - 1]
    rows, columns = divmod(np.flatnonzero(squares <= farthest[:, None]), squares.shape[1])
    order = np.lexsort((columns, squares[rows, columns], rows))
    starts = np.searchsorted(rows, np.arange(len(squares)))
    smallest: NDArray[np.int64] = columns[order[starts[:, None] + np.arange(count)]]
    return smallest


def with_new_rows(
    bank: NDArray[np.float32], norms: NDArray[np.float32], table: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Update the table of a bank whose last rows are new.

    Args:
        bank: Old rows, then new rows, (M, D).
        norms: Their squared lengths, (M,).
        table: Table of the old rows, (M', K); K is unchanged.
    """
    before, count = table.shape
    stale = [np.arange(before, len(bank))]
    for start in range(0, before, _BLOCK):
        own = slice(start, min(before, start + _BLOCK))
        last = bank[table[own, -1]] - bank[own]  # difference to the K-th neighbour
        reach = squared_lengths(last)
        to_new = norms[own, None] + norms[None, before:] - 2 * (bank[own] @ bank[before:].T)
        slack = SLACK * (norms[own] + norms.max())
        stale.append(start + np.flatnonzero((to_new <= (reach + slack)[:, None]).any(axis=1)))
    sought = np.concatenate(stale)
    mended = np.empty((len(bank), count), np.int32)
    mended[:before] = table
    mended[sought] = nearest_rows(bank, norms, count, wanted=sought)
    return mended


def without_rows(
    bank: NDArray[np.float32],
    norms: NDArray[np.float32],
    table: NDArray[np.int32],
    kept: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Update the table after rows were removed; the remaining rows get new numbers.

    Args:
        bank: The remaining rows, (M', D).
        norms: Their squared lengths, (M',).
        table: Table of all rows, (M, K); K is clipped to M'.
        kept: Numbers of the remaining rows among all rows, ascending, (M',).
    """
    new_number = np.full(len(table), -1, np.int32)
    new_number[kept] = np.arange(len(kept), dtype=np.int32)
    mended = new_number[table[kept]][:, : min(table.shape[1], len(kept))]
    sought = np.flatnonzero((mended < 0).any(axis=1))
    mended[sought] = nearest_rows(bank, norms, mended.shape[1], wanted=sought)
    return mended


def distances_to_nearest(
    vectors: NDArray[np.float32], rows: NDArray[np.float32], norms: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Compute the Euclidean distance of each vector to its nearest row, by brute force.

    Products pick the nearest row, and the distance comes from the difference of both, so that it
    does not cancel.

    Args:
        vectors: (N, D).
        rows: (M, D), at least one.
        norms: Squared lengths of the rows, (M,).

    Returns:
        Distances, (N,).
    """
    distances = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _VECTORS_AT_ONCE):
        block = vectors[start : start + _VECTORS_AT_ONCE]
        nearest = (norms - 2 * (block @ rows.T)).argmin(axis=1)
        distances[start : start + len(block)] = np.linalg.norm(block - rows[nearest], axis=1)
    return distances
