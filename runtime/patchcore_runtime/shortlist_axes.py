"""Choose the axes along which a bank is split: its principal axes, and how many pay.

More axes make longer products and leave fewer rows to measure. How many rows are left is tried on
rows of the bank itself, whose nearest others are about as far as a picture's patches are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.memory_bank import MemoryBank
from patchcore_runtime.search_graph import BLOCK_ROWS
from patchcore_runtime.shortlist_bound import Rest, Split, squares

_AXES = 16  # of each layer, where the rest is int8: what they miss costs little
_TRIED_ROWS = 64
_SAMPLE_ROWS = 4096
_SHARES = (1 / 32, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)  # of whole products
_COARSE = 0.25  # products of layer3 for one of layer2: one for four patches
# Multiplications of a matrix product that take as long, as measured:
_BOUND = 40  # upsampling, adding and comparing one bound
_CHANNEL_LEFT = 128  # measuring a channel of a row that is left

Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Principal:
    centre: Vectors  # (C,)
    axes: Vectors  # (C, C), those of largest variance first
    variances: NDArray[np.float64]  # (C,)

    def along(self, rows: NDArray[np.floating]) -> Vectors:
        """Rows (N, C) in coordinates of these axes."""
        coordinates: Vectors = (rows.astype(np.float32) - self.centre) @ self.axes
        return coordinates

    def first(self, count: int) -> Split:
        return Split(centre=self.centre, axes=np.ascontiguousarray(self.axes[:, :count]))


def split_bank(bank: MemoryBank, rest: Rest) -> tuple[Split, Split]:
    """How a bank's two layers are split."""
    fine, coarse = _principal(bank.layer2), _principal(bank.layer3)
    counts = _AXES, _AXES
    if rest is Rest.LENGTH_ALONE and bank.rows > 1:
        counts = _cheapest(bank, fine, coarse)
    return fine.first(counts[0]), coarse.first(counts[1])


def _principal(rows: NDArray[np.floating]) -> _Principal:
    centre = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample = rows[_spread(len(rows), _SAMPLE_ROWS)].astype(np.float32) - centre
    variances, axes = np.linalg.eigh((sample.T @ sample).astype(np.float64) / len(sample))
    return _Principal(
        centre=centre,
        axes=np.ascontiguousarray(axes[:, ::-1].astype(np.float32)),
        variances=variances[::-1],
    )


def _spread(rows: int, count: int) -> NDArray[np.int64]:
    """At most `count` of some rows, evenly spread."""
    return np.arange(0, rows, -(-rows // count))


def _cheapest(bank: MemoryBank, fine: _Principal, coarse: _Principal) -> tuple[int, int]:
    """Axes of each layer with which a search costs least."""
    tried, others = _spread(bank.rows, _TRIED_ROWS), _spread(bank.rows, _SAMPLE_ROWS)
    nearest = _nearest_others(bank, tried)
    layers = [
        (layer.along(rows[tried]), layer.along(rows[others]))
        for layer, rows in ((fine, bank.layer2), (coarse, bank.layer3))
    ]
    channels = len(fine.centre) + len(coarse.centre)

    def cost(counts: tuple[int, int]) -> float:
        main, rest_tried, rest_others = 0.0, 0.0, 0.0
        for count, (own, rows) in zip(counts, layers, strict=True):
            main = main + _squared_distances(own[:, :count], rows[:, :count])
            rest_tried = rest_tried + squares(own[:, count:])
            rest_others = rest_others + squares(rows[:, count:])
        least = main + (np.sqrt(rest_tried)[:, None] - np.sqrt(rest_others)) ** 2
        left = (least <= nearest[:, None]) & (tried[:, None] != others)
        return counts[0] + _COARSE * counts[1] + _BOUND + left.mean() * channels * _CHANNEL_LEFT

    return min(_ladder(fine.variances, coarse.variances), key=cost)


def _ladder(fine: NDArray[np.float64], coarse: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Numbers of axes that take shares of whole products: most variance for the cost first."""
    worth = np.concatenate([fine, coarse / _COARSE])
    order = np.argsort(-worth, kind="stable")
    of_fine = order < len(fine)
    spent = np.cumsum(np.where(of_fine, 1, _COARSE))
    for share in _SHARES:
        taken = of_fine[: int(np.searchsorted(spent, share * spent[-1])) + 1]
        yield int(taken.sum()), int((~taken).sum())


def _nearest_others(bank: MemoryBank, tried: NDArray[np.int64]) -> Vectors:
    """Squared distance of some rows to the nearest other row, (N,)."""
    nearest = np.full(len(tried), np.inf, np.float32)
    for start in range(0, bank.rows, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        found = sum(
            _squared_distances(layer[tried].astype(np.float32), layer[block].astype(np.float32))
            for layer in (bank.layer2, bank.layer3)
        )
        found[tried[:, None] == np.arange(bank.rows)[block]] = np.inf
        nearest = np.minimum(nearest, found.min(axis=1))
    return nearest


def _squared_distances(left: Vectors, right: Vectors) -> Vectors:
    table: Vectors = squares(left)[:, None] + squares(right) - 2 * (left @ right.T)
    return table
