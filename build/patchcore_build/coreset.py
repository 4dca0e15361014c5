"""Choose a small subset of patch features that covers the whole set.

features (P, D) -> indices (M,) of the rows to keep.
Greedy k-centre (Sener & Savarese 2018, arXiv:1708.00489), as in PatchCore section 3.2, run in a
seeded sparse random projection (Li, Hastie & Church 2006). Three things make it fast and exact:

- Lazy batches: a gap (squared distance to the nearest picked row) only ever shrinks. So the best
  of the ~1,000 widest gaps is the true next pick for as long as it beats every gap outside them,
  and one matrix product then updates all P rows for the whole batch of picks.
- float32 products only bound the distances, with a proven margin (Higham 2002, section 3.1). The
  few pairs that may be a new nearest one are measured again in float64 by direct difference.
- So every gap is a float64 one, and neither block sizes nor the number of threads nor the BLAS
  library can change the choice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["coreset_size", "projection_size", "random_projection", "select_coreset"]

_CANDIDATES = 1024  # rows looked at per batch; 512 to 4,096 cost the same within noise
_PRODUCT = 2**21  # floats in one product: 8 MB stay in the cache, and threads seldom have to meet
_PAIRS = 2048  # pairs measured at once in float64
_PICKED = -1.0  # gap of a picked row, below every true gap


def projection_size(count: int, *, eps: float = 0.9) -> int:
    """Give the dimension that keeps distances between `count` points within 1 ± eps.

    Johnson-Lindenstrauss bound in Dasgupta and Gupta's form, 4 ln(count) / (eps²/2 - eps³/3),
    rounded down like scikit-learn's: 296 for 163,856 patches.

    Args:
        count: Number of points, >= 1.
        eps: Largest relative error of a squared distance, in (0, 1).

    Returns:
        Dimension, at least 1.

    Raises:
        ValueError: `count` or `eps` is out of range.
    """
    if count < 1:
        raise ValueError(f"projection_size: expected count >= 1, got {count}")
    if not 0.0 < eps < 1.0:
        raise ValueError(f"projection_size: expected eps between 0 and 1, got {eps}")
    return max(1, int(4.0 * math.log(count) / (eps**2 / 2.0 - eps**3 / 3.0)))


def random_projection(dim: int, size: int, *, seed: int) -> NDArray[np.float32]:
    """Draw a very sparse random matrix that keeps distances on average.

    Each entry is +v or -v with probability density/2 each, else 0, where density = 1/sqrt(dim)
    and v = 1/sqrt(density * size). Nothing is gained by `size >= dim`: then it is the identity.

    Args:
        dim: Feature size D, >= 1.
        size: Wanted size, >= 1.
        seed: Seed of the draw.

    Returns:
        float32 (dim, min(size, dim)), to be multiplied from the right.

    Raises:
        ValueError: `dim` or `size` is below 1.
    """
    if dim < 1 or size < 1:
        raise ValueError(f"random_projection: expected sizes >= 1, got dim {dim}, size {size}")
    if size >= dim:
        return np.eye(dim, dtype=np.float32)
    density = 1.0 / math.sqrt(dim)
    value = 1.0 / math.sqrt(density * size)
    draw = np.random.default_rng(seed).random((dim, size))
    signs = (draw < density / 2).astype(np.float32) - (draw >= 1.0 - density / 2)
    return (signs * value).astype(np.float32)


def coreset_size(count: int, ratio: float) -> int:
    """Give the number of rows to keep: ratio * count to the nearest, and never none.

    Args:
        count: Number of patch features P, >= 1.
        ratio: Share to keep, in (0, 1].

    Returns:
        Number of rows M, 1 <= M <= P.

    Raises:
        ValueError: `count` is below 1 or `ratio` is out of range.
    """
    if count < 1:
        raise ValueError(f"coreset_size: expected at least one patch feature, got {count}")
    if not 0.0 < ratio <= 1.0:
        raise ValueError(f"coreset_size: expected a ratio above 0 and at most 1, got {ratio}")
    return max(1, round(ratio * count))


def select_coreset(
    features: NDArray[np.float32],
    count: int,
    *,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """Pick `count` rows so that every row lies near a picked one.

    Each step picks the row farthest (Euclidean, float64) from all rows picked so far, the lowest
    row on a tie; the first is drawn from `seed`. Exact: the same rows as the plain one-at-a-time
    loop. Holds one more float32 copy of `features` and under 100 MB.

    Args:
        features: Patch features, shape (P, D), finite; left as they are.
        count: Rows to keep, 1 <= count <= P.
        seed: Seed of the first pick.
        progress: Called with (rows picked, count) after every batch; last with (count, count).

    Returns:
        Distinct indices, shape (count,), in picking order.

    Raises:
        ValueError: `features` is not finite (P, D), or `count` is out of range.
    """
    cloud = _Cloud.of(features, count)
    picked = np.empty(count, dtype=np.int64)
    picked[0] = first = int(np.random.default_rng(seed).integers(len(features)))
    every_row = np.arange(len(features))
    gaps = cloud.measure(every_row, np.full_like(every_row, first))
    gaps[first] = _PICKED
    done = 1
    if progress is not None:
        progress(done, count)
    while done < count:
        if gaps.max() > 0.0:
            batch = _pick_batch(cloud, gaps, count - done)
            gaps[batch] = _PICKED
        else:  # only copies of picked rows are left
            batch = np.flatnonzero(gaps == 0.0)[: count - done]
        picked[done : done + len(batch)] = batch
        done += len(batch)
        if progress is not None:
            progress(done, count)
        if done < count:
            _lower_gaps(cloud, gaps, batch)
    return picked


@dataclass(frozen=True)
class _Cloud:
    """The rows twice: as they came, for measuring, and centred and scaled, for bounding.

    The centre limits cancellation and the scale overflow; neither moves a measured distance.
    """

    features: NDArray[np.float32]  # (P, D)
    centred: NDArray[np.float32]  # (P, D), (features - mean) * scale, within -1 ... 1
    floors: NDArray[np.float32]  # (P,), squared norm of `centred` less its share of the margin
    scale: float  # a power of two
    margin: float  # a product's error is at most margin * (sum of the two squared norms)

    @classmethod
    def of(cls, features: NDArray[np.float32], count: int) -> "_Cloud":
        """Check what came, centre and scale it."""
        if features.ndim != 2 or features.dtype != np.float32 or 0 in features.shape:
            got = f"{features.dtype} {features.shape}"
            raise ValueError(f"select_coreset: expected features float32 (P, D), got {got}")
        rows, dim = features.shape
        if not 1 <= count <= rows:
            raise ValueError(f"select_coreset: expected count from 1 to {rows}, got {count}")
        low, high = features.min(axis=0).astype(np.float64), features.max(axis=0)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ValueError("select_coreset: features hold NaN or infinity; check the backbone")
        mean = features.mean(axis=0, dtype=np.float64)
        radius = float(np.maximum(high - mean, mean - low).max())
        scale = 2.0 ** -math.frexp(radius)[1]
        centred = np.empty((rows, dim), dtype=np.float32)
        step = max(1, _PRODUCT // dim)
        for start in range(0, rows, step):
            block = slice(start, start + step)
            centred[block] = (features[block] - mean) * scale
        margin = (dim + 8) * float(np.finfo(np.float32).eps)
        norms = np.einsum("ij,ij->i", centred, centred)
        return cls(features, centred, norms * np.float32(1.0 - margin), scale, margin)

    def measure(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the squared distance of each pair (rows[i], others[i]) by direct difference."""
        squared_distances = np.empty(len(rows), dtype=np.float64)
        for start in range(0, len(rows), _PAIRS):
            part = slice(start, start + _PAIRS)
            difference = np.subtract(
                self.features[rows[part]], self.features[others[part]], dtype=np.float64
            )
            squared_distances[part] = np.einsum("ij,ij->i", difference, difference)
        return squared_distances


def _pick_batch(cloud: _Cloud, gaps: NDArray[np.float64], at_most: int) -> NDArray[np.int64]:
    """Pick rows one at a time among the widest gaps while no other row can be wider.

    Gaps outside the candidates are those before the batch, so they can only be smaller in truth.
    The first candidate beats every other row, hence at least one row comes back.
    """
    candidates, outside_gap, outside_row = _widest(gaps, _CANDIDATES)
    inside = gaps[candidates]
    points, floors = cloud.centred[candidates], cloud.floors[candidates]
    batch: list[int] = []
    while len(batch) < at_most:
        best = int(inside.argmax())
        row, gap = int(candidates[best]), inside[best]
        if gap <= 0.0 or (gap, -row) < (outside_gap, -outside_row):
            break
        batch.append(row)
        inside[best] = _PICKED
        lower_bounds = floors + floors[best] - 2.0 * (points @ points[best])
        near = np.flatnonzero((lower_bounds <= inside * cloud.scale**2) & (inside > 0.0))
        measured = cloud.measure(candidates[near], np.full_like(near, row))
        inside[near] = np.minimum(inside[near], measured)
    return np.array(batch, dtype=np.int64)


def _widest(gaps: NDArray[np.float64], size: int) -> tuple[NDArray[np.int64], float, int]:
    """Split off the rows with the widest gaps; on a tie the lower rows go first.

    Returns their indices, ascending, and the widest gap outside with its lowest row.
    """
    size = min(size, len(gaps))
    threshold = np.partition(gaps, len(gaps) - size)[len(gaps) - size]
    above = np.flatnonzero(gaps > threshold)
    level = np.flatnonzero(gaps == threshold)[: size - len(above)]
    candidates = np.sort(np.concatenate([above, level]))
    outside = gaps.copy()
    outside[candidates] = _PICKED
    row = int(outside.argmax())
    return candidates, float(outside[row]), row


def _lower_gaps(cloud: _Cloud, gaps: NDArray[np.float64], batch: NDArray[np.int64]) -> None:
    """Bring every gap up to date with a batch of picks, in place."""
    picks, pick_floors = cloud.centred[batch] * np.float32(-2.0), cloud.floors[batch, None]
    step = _PRODUCT // len(batch)
    for start in range(0, len(gaps), step):
        block = slice(start, start + step)
        points, floors, old = cloud.centred[block], cloud.floors[block], gaps[block]
        lower_bounds = picks @ points.T  # (batch, rows), squared distances less floors
        lower_bounds += pick_floors
        # A pair matters if it may lie below the old gap and be the nearest pick of its row: true
        # distances lie at most 2 margins above their lower bound, and floors are a little low.
        spread = 4.0 * cloud.margin * (floors + pick_floors.max())
        limits = np.minimum(old * cloud.scale**2 - floors, lower_bounds.min(axis=0) + spread)
        limits[old <= 0.0] = -np.inf
        # Flat, because np.nonzero of a (batch, rows) array is several times slower.
        which, where = np.divmod(
            np.flatnonzero(lower_bounds <= limits.astype(np.float32)), len(points)
        )
        np.minimum.at(old, where, cloud.measure(where + start, batch[which]))
