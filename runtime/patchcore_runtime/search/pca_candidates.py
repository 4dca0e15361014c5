"""State of a search by bounds: the nearest rows so far, and the candidates not yet excluded.

pairs of patch and row with upper bounds -> the nearest row of each patch. Here "to measure" a pair
means to compute its distance.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_PAIRS_AT_ONCE = 256  # their differences fit into the cache
_ROUNDS = 3  # after these, most of the remaining pairs have to be measured anyway

Vectors = NDArray[np.float32]
Indices = NDArray[np.int64]
Pairs = tuple[Indices, Indices, Vectors]  # patches, rows, bounds


class Shortlist:
    """Pairs of a patch and a row that may be its nearest, for one image.

    Args:
        bank: The layers of the rows, (M, C) each.
        patches: The layers of the patches, (P, C) each.
        squared_lengths: Squared lengths of the patches about the bank's centre, (P,).
        slack: Upper bound of a bound's rounding error, (P,).
    """

    def __init__(
        self,
        bank: Sequence[NDArray[np.floating]],
        patches: Sequence[Vectors],
        squared_lengths: Vectors,
        slack: Vectors,
    ) -> None:
        self._bank, self._patches = bank, patches
        self._squared_lengths, self._slack = squared_lengths, slack
        count = len(slack)
        self.nearest = np.full(count, np.inf, np.float32)  # squared distances
        self.winners = np.zeros(count, np.int64)
        self.least = np.full(count, -np.inf, np.float32)  # pairs with a lower bound are excluded
        self._doubted: list[Pairs] = []
        self._count = 0

    def add(self, patches: Indices, rows: Indices, bounds: Vectors) -> None:
        """Add pairs (N,) and their upper bounds; measure the highest pair of each patch."""
        left = self._measure_highest(*_by_patch(patches, rows, bounds))
        self._doubted.append(left)
        self._count += len(left[0])

    def is_longer_than(self, pairs: int) -> bool:
        """Return whether more than `pairs` pairs are not excluded."""
        if self._count > pairs:
            self._doubted = [self._mattering(*part) for part in self._doubted]
            self._count = sum(len(rows) for _, rows, _ in self._doubted)
        return self._count > pairs

    def settle(self) -> None:
        """Measure all pairs that are not excluded."""
        parts = zip(*self._doubted, strict=True)
        pairs = _by_patch(*self._mattering(*(np.concatenate(part) for part in parts)))
        for _ in range(_ROUNDS):
            pairs = self._measure_highest(*pairs)
        self._measure(*pairs[:2])
        self._doubted = []

    def _measure_highest(self, patches: Indices, rows: Indices, bounds: Vectors) -> Pairs:
        """Measure the pairs with each patch's highest bound; return the others not excluded."""
        if not len(patches):
            return patches, rows, bounds
        starts = np.flatnonzero(np.diff(patches, prepend=-1))
        highest = np.maximum.reduceat(bounds, starts)
        top = bounds == np.repeat(highest, np.diff(starts, append=len(bounds)))
        self._measure(patches[top], rows[top])
        return self._mattering(patches[~top], rows[~top], bounds[~top])

    def _mattering(self, patches: Indices, rows: Indices, bounds: Vectors) -> Pairs:
        matters = bounds >= self.least[patches]
        return patches[matters], rows[matters], bounds[matters]

    def _measure(self, patches: Indices, rows: Indices) -> None:
        """Compute distances from differences; of equally near rows the first wins."""
        measured = np.empty(len(patches), np.float32)
        for start in range(0, len(patches), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            measured[part] = sum(
                _squared_distances(bank.take(rows[part], axis=0), own.take(patches[part], axis=0))
                for own, bank in zip(self._patches, self._bank, strict=True)
            )
        order = np.lexsort((rows, measured, patches))
        firsts = order[np.flatnonzero(np.diff(patches[order], prepend=-1))]
        patches, rows, measured = patches[firsts], rows[firsts], measured[firsts]
        former = self.nearest[patches]
        nearer = (measured < former) | ((measured == former) & (rows < self.winners[patches]))
        patches = patches[nearer]
        self.nearest[patches], self.winners[patches] = measured[nearer], rows[nearer]
        reached = (self._squared_lengths[patches] - self.nearest[patches]) / 2
        self.least[patches] = np.maximum(self.least[patches], reached - self._slack[patches])


def _squared_distances(rows: NDArray[np.floating], patches: Vectors) -> Vectors:
    """Compute squared distances of pairs (N, C); BLAS takes half of einsum's time here."""
    differences = rows.astype(np.float32, copy=False)
    differences -= patches
    products: Vectors = np.matmul(differences[:, None, :], differences[:, :, None])
    return products[:, 0, 0]


def _by_patch(patches: Indices, rows: Indices, bounds: Vectors) -> Pairs:
    order = np.argsort(patches, kind="stable")
    return patches[order], rows[order], bounds[order]
