"""Sort the rows of a patch cloud into blocks of rows that lie near each other.

points (P, D) -> Clusters: each row belongs to the anchor nearest to it, and each anchor's rows are
cut into blocks. The triangle inequality then excludes whole blocks at once (Elkan 2003).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEVER = -np.inf  # gap of a row that is picked or left out, below every true gap

_PART_FLOATS = 2**19  # floats processed at once: 2 MB stay in the cache
_BLOCK_ROWS = 512  # smaller blocks would exclude more rows, at the cost of more calls
_ANCHORS = 128
_SAMPLE = 4096  # rows among which anchors are chosen
_ROUNDING = 1.0 + 1e-6  # covers the float64 rounding of a sum of two square roots

Points = Callable[[NDArray[np.int64]], NDArray[np.float32]]  # rows (n,) -> points (n, D)


def rows_at_once(dim: int) -> int:
    """How many rows of a dimension are processed at once."""
    return max(1, _PART_FLOATS // dim)


@dataclass(frozen=True, eq=False)
class Clusters:
    """Blocks of rows, the anchor of each block, and the distance of each row to its anchor."""

    blocks: list[NDArray[np.int64]]
    order: NDArray[np.int64]  # (P,) rows, block after block
    starts: NDArray[np.int64]  # where each block starts in `order`
    radii: NDArray[np.float64]  # (P,) in that order: upper bound of the distance to the anchor
    anchors: NDArray[np.int64]  # rows
    anchor_of_block: NDArray[np.int64]  # index into `anchors`

    def reach(self, upper: NDArray[np.float64]) -> NDArray[np.float64]:
        """How near to a block's anchor a pick must lie to change the gap of any of its rows.

        Args:
            upper: (P,) upper bounds of the squared gaps; negative if no pick matters to the row.

        Returns:
            Distances, (blocks,); `NEVER` if no pick matters to the block.
        """
        squares = upper[self.order]
        reach = np.sqrt(np.maximum(squares, 0.0))
        reach += self.radii
        reach *= _ROUNDING
        reach[squares < 0.0] = NEVER
        furthest: NDArray[np.float64] = np.maximum.reduceat(reach, self.starts)
        return furthest


def sort_into_clusters(
    points_of: Points, shape: tuple[int, int], *, margin: float, tiny: float
) -> tuple[NDArray[np.float32], Clusters]:
    """Sort all rows by the anchor nearest to them.

    Args:
        points_of: Gives the points of some rows.
        shape: (P, D).
        margin: Largest error of a squared distance, relative to the sum of both squared norms.
        tiny: Its largest absolute error on top.

    Returns:
        Squared norms of all points, (P,), and the clusters.
    """
    rows, dim = shape
    anchors = _choose_anchors(points_of, rows)
    points = points_of(anchors)
    anchor_norms = np.einsum("ij,ij->i", points, points)
    points *= np.float32(-2.0)
    norms, squares = np.empty(rows, np.float32), np.empty(rows)
    nearest = np.empty(rows, np.int64)
    step = rows_at_once(dim)
    for start in range(0, rows, step):
        part = np.arange(start, min(rows, start + step))
        block = points_of(part)
        norms[part] = np.einsum("ij,ij->i", block, block)
        products = block @ points.T
        products += anchor_norms
        nearest[part] = products.argmin(axis=1)
        squares[part] = products.min(axis=1)
    squares += norms
    squares += margin * (norms + anchor_norms[nearest]) + tiny
    radii = np.sqrt(np.maximum(squares, 0.0))
    order = np.lexsort((radii, nearest))
    starts = _block_starts(nearest[order])
    blocks = np.split(order, starts[1:])
    return norms, Clusters(blocks, order, starts, radii[order], anchors, nearest[order[starts]])


def _block_starts(anchor_of_row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where blocks start if the rows of each anchor are cut into blocks of nearly equal size."""
    bounds = np.flatnonzero(np.diff(anchor_of_row, prepend=-1))
    ends = [*bounds[1:], len(anchor_of_row)]
    return np.concatenate(
        [
            np.linspace(
                first, end, -(-(end - first) // _BLOCK_ROWS), endpoint=False, dtype=np.int64
            )
            for first, end in zip(bounds, ends, strict=True)
        ]
    )


def _choose_anchors(points_of: Points, rows: int) -> NDArray[np.int64]:
    """Rows spread over the cloud: a rough greedy k-centre of every n-th row."""
    sample = np.arange(0, rows, -(-rows // _SAMPLE))
    points = points_of(sample)
    norms = np.einsum("ij,ij->i", points, points)
    gaps = np.full(len(sample), np.inf, np.float32)
    anchors = [0]
    while len(anchors) < min(_ANCHORS, rows // _BLOCK_ROWS):
        last = anchors[-1]
        np.minimum(gaps, norms + norms[last] - 2.0 * (points @ points[last]), out=gaps)
        anchors.append(int(gaps.argmax()))
    return sample[anchors]
