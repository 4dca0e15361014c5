"""Outlines of regions, from their runs: closed polygons over pixel corners, and fewer corners.

runs (row, start, stop) -> one polygon (N, 2) of (y, x) for each region, clockwise as shown.
A run has a left and a right edge, each one pixel high. Where two rows meet, the ends of all edges,
sorted by column, are joined in pairs by horizontal lines: there the rows differ. Going up left
edges and down right ones walks around a region.
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
    """Walk around regions, leaving their holes out.

    Args:
        row: Row of each run, (R,), in reading order.
        start: Its first column, (R,).
        stop: The column behind its last, (R,).
        firsts: The first run of each region.

    Returns:
        For each region the corners where its outline turns, from the first run's upper left one.
    """
    count = len(row)
    x = np.concatenate([start, stop])  # of the edges: R left ones, R right ones
    following = _next_edges(np.concatenate([row, row]), x, count)
    steps = following.tolist()
    contours = []
    for first in firsts.tolist():
        edges = [first]
        while (edge := steps[edges[-1]]) != first:
            edges.append(edge)
        walked = np.array(edges)
        contours.append(_corners(row[walked % count], x[walked], walked >= count))
    return contours


def _next_edges(row: NDArray[np.int64], x: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The edge that follows each edge, (2R,): left edges lead up, right ones down."""
    edges = np.arange(2 * count)
    is_right = edges >= count
    # Both ends of each edge: the upper on line `row`, the lower on the line below.
    line = np.concatenate([row, row + 1])
    # Where two regions' pixels touch at a corner only, two ends share a place: a left edge's end
    # first joins the pixels into one outline.
    order = np.lexsort((np.tile(is_right, 2), np.tile(x, 2), line))
    mate = np.empty(4 * count, np.int64)
    mate[order[::2]], mate[order[1::2]] = order[1::2], order[::2]
    leaving = np.where(is_right, edges + 2 * count, edges)
    return mate[leaving] % (2 * count)


def _corners(row: NDArray[np.int64], x: NDArray[np.int64], is_right: NDArray[np.bool_]) -> Polygon:
    """Ends of the edges walked, (y, x), without those where the outline goes straight on."""
    up = np.stack([row + 1, x, row, x], axis=1)
    down = np.stack([row, x, row + 1, x], axis=1)
    points = np.where(is_right[:, None], down, up).reshape(-1, 2)
    before = points - np.roll(points, 1, axis=0)
    points, before = points[before.any(axis=1)], before[before.any(axis=1)]
    after = np.roll(before, -1, axis=0)
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    kept = points[turns]
    top = np.lexsort((kept[:, 1], kept[:, 0]))[0]
    return np.roll(kept, -top, axis=0)


def simplify(polygon: Polygon, tolerance_px: float) -> Polygon:
    """Leave corners out as long as the outline moves by at most `tolerance_px`.

    Douglas and Peucker 1973, from the first corner and the one farthest from it. At least three
    corners stay.
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
    """From points (N, 2) to the line segment between two others, (N,)."""
    along = other - one
    length = max(float(along @ along), 1e-12)
    share = np.clip((points - one) @ along / length, 0, 1)
    gaps: NDArray[np.float64] = np.linalg.norm(points - one - share[:, None] * along, axis=1)
    return gaps
