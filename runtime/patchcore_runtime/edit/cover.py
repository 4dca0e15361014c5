"""Extend an existing memory bank by greedy k-centre selection.

points (N, D), their distances to the bank, radius -> rows to add, the farthest first, until no
point is farther than the radius. Sener & Savarese 2018 (arXiv:1708.00489), started from a cover.
"""

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import squared_lengths

_AT_ONCE = 256  # candidates per batch, whose mutual distances are computed together


def extend_cover(
    points: NDArray[np.float32], distances: NDArray[np.float32], radius: float
) -> NDArray[np.int64]:
    """Pick points until every point lies within `radius` of the bank or of a picked point.

    Each step picks the point farthest from both; among equal distances the lowest index wins. The
    picks equal those of the plain one-at-a-time loop, except for float32 rounding. They are made
    in batches: a distance can only shrink, so the best of the `_AT_ONCE` farthest points is the
    next pick as long as its distance exceeds that of all other points.

    Args:
        points: Patch vectors, (N, D), finite.
        distances: Distance of each point to its nearest bank row, (N,).
        radius: Largest distance allowed at the end, above 0.

    Returns:
        Indices of the picked points in picking order; empty if all lie within the radius.
    """
    centred = points - points.mean(axis=0) if len(points) else points  # less cancellation
    norms = squared_lengths(centred)
    gaps = distances.astype(np.float32) ** 2
    limit = np.float32(radius) ** 2
    picked: list[int] = []
    while len(gaps) and gaps.max() > limit:
        batch = _next_batch(centred, norms, gaps, limit)
        picked += batch
        squares = norms[:, None] + norms[batch] - 2 * (centred @ centred[batch].T)
        np.minimum(gaps, squares.min(axis=1), out=gaps)
        gaps[batch] = 0
    return np.array(picked, dtype=np.int64)


def _next_batch(
    centred: NDArray[np.float32],
    norms: NDArray[np.float32],
    gaps: NDArray[np.float32],
    limit: np.float32,
) -> list[int]:
    """Return the next picks in order, at least one."""
    order = np.argsort(-gaps, kind="stable")
    near, rest = order[:_AT_ONCE], order[_AT_ONCE:]
    others = max(float(limit), float(gaps[rest[0]]) if len(rest) else 0.0)
    inside = gaps[near]
    batch: list[int] = []
    while not batch or inside.max() > others:
        best = int(inside.argmax())
        batch.append(int(near[best]))
        squares = norms[near] + norms[near[best]] - 2 * (centred[near] @ centred[near[best]])
        inside = np.minimum(inside, squares)
        inside[best] = 0
    return batch
