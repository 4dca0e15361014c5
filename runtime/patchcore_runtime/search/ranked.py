"""Base of the indexes of whole rows: layers -> whole patches -> candidate rows -> the nearest.

A library proposes rows of the bank by its own, possibly approximate arithmetic. The distances are
then computed from the differences of patch and row. Every kind of index therefore reports the same
distance for the same pair, and the first of equally near candidates.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.bank.patches import upsamplers, whole_patches
from patchcore_runtime.manifest.features import Layout
from patchcore_runtime.search.exact import Layers

_PAIRS_AT_ONCE = 256  # fit into the cache: 9 ms instead of 22 ms with 4096 pairs (D = 384)


class RankedIndex(ABC):
    """A search whose candidates are ranked by the bank's own rows; threads may share it."""

    def __init__(self, bank: MemoryBank, layout: Layout) -> None:
        self._bank = bank
        self._ups = upsamplers(layout)
        self._ends = np.cumsum(bank.channels)[:-1]

    @abstractmethod
    def propose(self, patches: NDArray[np.float32]) -> NDArray[np.int64]:
        """Propose bank rows (P, S) for patches (P, D), in any order, padded with -1.

        A patch without a proposed row is compared with all rows.
        """

    def nearest(self, layers: Layers) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest of the proposed rows for every patch: nearly always the nearest row.

        Each patch is searched independently, so the number of threads does not change the result.

        Args:
            layers: (B, C, h/s, w/s) each.

        Returns:
            Euclidean distances (B, h, w), recomputed from the differences, and rows (B, h, w).
        """
        count, _, height, width = layers[0].shape
        patches = whole_patches(layers, self._ups)
        # Ascending order makes the first of equally near rows win.
        candidates = np.sort(self.propose(patches), axis=1)
        squares, rows = np.empty(len(patches), np.float32), np.empty(len(patches), np.int64)
        step = max(1, _PAIRS_AT_ONCE // candidates.shape[1])
        for start in range(0, len(patches), step):
            part = slice(start, start + step)
            squares[part], rows[part] = self._rank(patches[part], candidates[part])
        for patch in np.flatnonzero(candidates[:, -1] < 0):
            squares[patch], rows[patch] = self._nearest_of_all(patches[patch])
        shape = (count, height, width)
        return np.sqrt(squares).reshape(shape), rows.reshape(shape)

    def _rank(
        self, patches: NDArray[np.float32], candidates: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Rank (p, S) candidates of (p, D) patches; return squared distances (p,) and rows (p,)."""
        rows = np.maximum(candidates, 0)
        squares = np.zeros(rows.shape, np.float32)
        for layer, own in zip(self._bank.layers, self._split(patches), strict=True):
            difference = layer[rows] - own[:, None, :]
            squares += np.einsum("psd,psd->ps", difference, difference)
        squares[candidates < 0] = np.inf
        best = squares.argmin(axis=1)[:, None]
        nearest, winners = (np.take_along_axis(of, best, axis=1)[:, 0] for of in (squares, rows))
        return nearest, winners

    def _nearest_of_all(self, patch: NDArray[np.float32]) -> tuple[np.float32, np.intp]:
        squares = self._bank.squared_distances(self._split(patch), slice(None))
        best = squares.argmin()
        return squares[best], best

    def _split(self, patches: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Split whole vectors (..., D) into their layers."""
        return np.split(patches, self._ends, axis=-1)
