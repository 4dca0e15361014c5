"""Outlines of regions, from their runs: closed polygons over pixel corners, and simplified ones.

runs (row, start, stop) -> one polygon (N, 2) of (y, x) for each region, clockwise as shown.
A run has a left and a right edge, each one pixel high. On the line between two rows, the ends of
all edges are sorted by column and joined in pairs by horizontal lines, because the rows differ
between them. Going up left edges and down right edges leads around a region.
"""

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.int64]  # (N, 2): y, x; the last point is joined to the first


def outer_contours(
    row: NDArray[np.int64],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    firsts: NDArray[np.int64],
) -> list[Polygon]:
    """Compute the outer contour of each region, without its holes.

    Args:
        row: Row of each run, (R,), in reading order.
        start: Its first column, (R,).
        stop: The column after its last, (R,).
        firsts: The first run of each region.

    Returns:
        For each region the corners where its outline turns, from the first run's upper left one.
    """
    count = len(row)
    x = np.concatenate([start, stop])  # columns of R left edges, then of R right edges
    steps = _next_edges(np.concatenate([row, row]), x, count).tolist()
    edges: list[int] = []
    lengths = []
    for first in firsts.tolist():
        before = len(edges)
        edges.append(first)
        while (edge := steps[edges[-1]]) != first:
            edges.append(edge)
        lengths.append(len(edges) - before)
    walked = np.array(edges)
    return _corners(row[walked % count], x[walked], walked >= count, np.array(lengths))


def _next_edges(row: NDArray[np.int64], x: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Compute the successor of each edge, (2R,): left edges lead up, right edges down."""
    edges = np.arange(2 * count)
    is_right = edges >= count
    # Each edge has an upper end on line `row` and a lower end on the next line.
    line = np.concatenate([row, row + 1])
    # If pixels touch only at a corner, two ends share a position. Sorting the left edge's end first
    # joins these pixels into one outline.
    order = np.lexsort((np.tile(is_right, 2), np.tile(x, 2), line))
    mate = np.empty(4 * count, np.int64)
    mate[order[::2]], mate[order[1::2]] = order[1::2], order[::2]
    leaving = np.where(is_right, edges + 2 * count, edges)
    return mate[leaving] % (2 * count)


def _corners(
    row: NDArray[np.int64],
    x: NDArray[np.int64],
    is_right: NDArray[np.bool_],
    lengths: NDArray[np.int64],
) -> list[Polygon]:
    """Return the corners (y, x) of the visited edges, without points on straight lines.

    Each outline begins at the upper end of its first edge. This is a corner, because nothing lies
    above a region's first run.
    """
    left, right = row + 1, row  # the line where an edge begins: below for left, above for right
    comes, goes = np.where(is_right, right, left), np.where(is_right, left, right)
    behind = _neighbours(lengths, 1)
    # The end of an edge, then the beginning of the next edge on the same line.
    points = np.stack([goes, x, comes[behind], x[behind]], axis=1).reshape(-1, 2)
    moves = points != points[_neighbours(2 * lengths, -1)]
    points, lengths = _kept(points, 2 * lengths, moves.any(axis=1))
    here = points - points[_neighbours(lengths, -1)]
    after = here[_neighbours(lengths, 1)]
    turns = here[:, 0] * after[:, 1] != here[:, 1] * after[:, 0]
    points, lengths = _kept(points, lengths, turns)
    return np.split(points, np.cumsum(lengths)[:-1])


def _neighbours(lengths: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Return the next (1) or previous (-1) member of each member of consecutive rings."""
    ends = np.cumsum(lengths)
    beside = np.arange(ends[-1]) + step
    if step > 0:
        beside[ends - 1] = ends - lengths
    else:
        beside[ends - lengths] = ends - 1
    return beside


def _kept(
    points: Polygon, lengths: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> tuple[Polygon, NDArray[np.int64]]:
    """Return the wanted points of all rings, and their number in each ring."""
    counts = np.add.reduceat(wanted.astype(np.int64), np.cumsum(lengths) - lengths)
    return points[wanted], counts


def simplify(polygon: Polygon, tolerance_px: float) -> Polygon:
    """Remove corners as long as the outline moves by at most `tolerance_px`.

    Douglas and Peucker 1973, from the first corner and the corner farthest from it. At least three
    corners remain.
    """
    if tolerance_px <= 0 or len(polygon) <= 4:
        return polygon
    closed = np.concatenate([polygon, polygon[:1]]).astype(np.float64)
    far = int(((closed - closed[0]) ** 2).sum(axis=1).argmax())
    kept = {0, far}
    waiting = [(0, far), (far, len(polygon))]
    while waiting:
        first, last = waiting.pop()
        away = _distances(closed[first + 1 : last], closed[first], closed[last])
        if not len(away):
            continue
        worst = int(away.argmax())
        if away[worst] > tolerance_px or (last == len(polygon) and len(kept) < 3):
            middle = first + 1 + worst
            kept.add(middle)
            waiting += [(first, middle), (middle, last)]
    return polygon[sorted(kept)]


def _distances(
    points: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute distances from points (N, 2) to the line segment between two others, (N,)."""
    along = other - one
    length = max(float(along @ along), 1e-12)
    share = np.clip((points - one) @ along / length, 0, 1)
    gaps: NDArray[np.float64] = np.linalg.norm(points - one - share[:, None] * along, axis=1)
    return gaps
