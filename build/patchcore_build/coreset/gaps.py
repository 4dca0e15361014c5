"""The gap of every row: its squared distance to the nearest row picked so far, known lazily.

picks -> bounds of P gaps; the exact gap of a row only when it is needed.
Each row keeps an upper bound, the looseness of that bound, and the pick that is nearest for sure.
If float32 cannot tell which of several picks is the nearest, they are measured in float64 at once.
So one measurement gives the exact gap of any row at any time, and most rows are never measured.
"""

from collections import deque
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_build.coreset.cloud import Block, PatchCloud
from patchcore_build.coreset.clusters import NEVER


@dataclass(eq=False)
class PatchGaps:
    """Gaps in the cloud's unit; the exact gap is the smallest that `PatchCloud.measure` gives."""

    cloud: PatchCloud
    upper: NDArray[np.float64]  # (P,), at least the exact gap; NEVER once the row is picked
    loose: NDArray[np.float32]  # (P,), upper - loose is at most the exact gap; 0 if upper is exact
    nearest: NDArray[np.int64]  # (P,) the pick whose measured distance is the exact gap

    @classmethod
    def of(cls, cloud: PatchCloud, rows: NDArray[np.int64] | None) -> "PatchGaps":
        """The gaps before any pick: infinite, and `NEVER` for rows that are left out."""
        count = len(cloud.features)
        upper = np.full(count, np.inf)
        if rows is not None:
            upper[:] = NEVER
            upper[rows] = np.inf
        return cls(cloud, upper, np.zeros(count, np.float32), np.zeros(count, np.int64))

    def lower(self, picks: NDArray[np.int64], pool: Executor) -> None:
        """Update every gap with new picks; the pool's threads share the blocks."""
        self.upper[picks] = NEVER
        blocks = self.cloud.blocks_to_lower(picks, self.upper)
        run = pool.map if self.cloud.product.concurrent else map
        deque(run(self._lower_block, blocks), maxlen=0)

    def _lower_block(self, block: Block) -> None:
        rows, picks = block.rows, block.picks[block.some]
        products = self.cloud.products(block)
        products += self.cloud.floors(picks)  # lower bounds of the distances - floors of the rows
        least = products.min(axis=1)
        near = np.flatnonzero(least + self.cloud.floors(rows) < self.upper[rows])
        if len(near) == 0:
            return
        rows, products, least = rows[near], products[near], least[near]
        winners = picks[products.argmin(axis=1)]
        # The true distance of the winner is at most its lower bound plus twice its error.
        norms = self.cloud.norms[rows].astype(np.float64) + self.cloud.norms[winners]
        spread = 2.0 * (self.cloud.margin * norms + 2.0 * self.cloud.tiny)
        upper = least + self.cloud.floors(rows).astype(np.float64) + spread
        rivals = products <= (least + spread)[:, None]
        unclear = (rivals.sum(axis=1) > 1) | (upper >= self.upper[rows] - self.loose[rows])
        clear = ~unclear
        changed = rows[clear]
        self.upper[changed] = upper[clear]
        self.loose[changed] = spread[clear]
        self.nearest[changed] = winners[clear]
        if unclear.any():
            self.exact(rows[unclear])
            which, where = np.nonzero(rivals[unclear])
            self._measure_pairs(rows[unclear][which], picks[where])

    def _measure_pairs(self, rows: NDArray[np.int64], picks: NDArray[np.int64]) -> None:
        """Lower the exact gaps of rows by their measured distances to picks."""
        gaps = self.cloud.measure(rows, picks)
        np.minimum.at(self.upper, rows, gaps)
        best = gaps <= self.upper[rows]
        self.nearest[rows[best]] = picks[best]
        self.loose[rows] = 0.0

    def exact(self, rows: NDArray[np.int64]) -> None:
        """Make the gaps of some rows exact."""
        rows = rows[self.loose[rows] > 0.0]
        self.upper[rows] = self.cloud.measure(rows, self.nearest[rows])
        self.loose[rows] = 0.0

    def widest(self, size: int) -> tuple[NDArray[np.int64], float, int]:
        """Find candidates that include the row with the widest gap, the lowest row on a tie.

        Returns:
            The candidates, ascending, whose gaps are exact now; the widest upper bound of all other
            rows; and the lowest row with that bound.
        """
        while True:
            candidates, outside_gap, outside_row = _split(self.upper, size)
            self.exact(candidates)
            best = int(candidates[self.upper[candidates].argmax()])
            if (self.upper[best], -best) > (outside_gap, -outside_row):
                return candidates, outside_gap, outside_row
            self.exact(np.flatnonzero(self.upper >= self.upper[best]))


def _split(gaps: NDArray[np.float64], size: int) -> tuple[NDArray[np.int64], float, int]:
    """The `size` rows with the widest gaps, ascending, lower rows first on a tie; and the next."""
    size = min(size, len(gaps))
    threshold = np.partition(gaps, len(gaps) - size)[len(gaps) - size]
    above = np.flatnonzero(gaps > threshold)
    level = np.flatnonzero(gaps == threshold)[: size - len(above)]
    candidates = np.sort(np.concatenate([above, level]))
    outside = gaps.copy()
    outside[candidates] = NEVER
    row = int(outside.argmax())
    return candidates, float(outside[row]), row
