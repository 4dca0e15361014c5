"""Choose a small subset of patch features that covers the whole set.

features (P, D) -> indices (M,) of the rows to keep.
Greedy k-centre (Sener & Savarese 2018, arXiv:1708.00489), as in PatchCore section 3.2, run in a
seeded sparse random projection (Li, Hastie & Church 2006). Three ideas make it fast and exact:

- Lazy batches: a gap (squared distance to the nearest picked row) only ever shrinks. So the best
  of the ~2,000 widest gaps is the true next pick as long as it exceeds every gap outside of them.
  One pass then updates all P rows for the whole batch of picks.
- Clusters: most picks are too far from most rows to change their gaps. The triangle inequality
  proves this for whole blocks of rows (`clusters`).
- Bounds: float32 products only bound the distances, with a proven margin. A row is measured in
  float64 only if it becomes a candidate, or if float32 cannot tell its nearest pick (`gaps`).

So float64 gaps alone decide. Block sizes, the number of threads, the BLAS library and the device
cannot change the choice.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from patchcore_build.coreset.checkpoint import Checkpoint
from patchcore_build.coreset.cloud import PatchCloud
from patchcore_build.coreset.clusters import NEVER
from patchcore_build.coreset.gaps import PatchGaps
from patchcore_build.errors import require
from patchcore_runtime.engine.session import usable_cores

_CANDIDATES = 2048  # candidates per batch; more of them give longer batches and slower picks
_BATCH_PICKS = 1024  # at most, so that a block's products stay in the cache


def projection_size(count: int, *, eps: float = 0.9) -> int:
    """Compute the dimension that keeps distances between `count` points within 1 ± eps.

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
    and v = 1/sqrt(density * size). If `size >= dim`, the result is the identity.

    Args:
        dim: Feature size D, >= 1.
        size: Wanted size, >= 1.
        seed: Seed of the draw.

    Returns:
        float32 (dim, min(size, dim)); features are multiplied with it from the right.

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
    """Compute the number of rows to keep: ratio * count, rounded, and at least one.

    Args:
        count: Number of patch features P, >= 1.
        ratio: Share of rows to keep, in (0, 1].

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
    features: NDArray[np.float32] | PatchCloud,
    count: int,
    *,
    seed: int,
    rows: NDArray[np.int64] | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """Pick `count` rows so that every row lies near a picked one.

    Each step picks the row farthest (Euclidean, float64) from all rows picked so far, the lowest
    row on a tie; the first is drawn from `seed`. The result is exact: the same rows as the plain
    one-at-a-time loop gives. Memory: one float32 copy of `features`, about 70 bytes a row and
    50 MB. A `PatchCloud` can do without the copy, and serves several selections.

    Args:
        features: Patch features, shape (P, D), finite, never changed; or a cloud of them.
        count: Rows to keep, 1 <= count <= P, or up to the number of `rows`.
        seed: Seed of the first pick.
        rows: Pick among these rows alone, ascending, as if the others did not exist.
        checkpoint: Stores picks from time to time; an interrupted selection continues from it.
        progress: Called with (rows picked, count) after every batch; last with (count, count).

    Returns:
        Distinct indices into `features`, shape (count,), in picking order.

    Raises:
        ValueError: `features` is not finite (P, D), or `count` or `rows` is out of range.
        OutputError: the checkpoint belongs to other features, rows or seed, or is corrupt.
    """
    cloud = features if isinstance(features, PatchCloud) else PatchCloud.of(features)
    _check(cloud, count, rows)
    gaps = PatchGaps.of(cloud, rows)
    first = int(np.random.default_rng(seed).integers(len(cloud.features if rows is None else rows)))
    first = first if rows is None else int(rows[first])
    start = np.array([first]) if checkpoint is None else checkpoint.open(cloud, rows, first)
    start = start[:count]
    picked = np.empty(count, dtype=np.int64)
    done = 0
    with worker_threads() as pool:
        while done < count:
            known = start[done : done + _BATCH_PICKS]
            batch = known if len(known) else _next(cloud, gaps, count - done)
            picked[done : done + len(batch)] = batch
            done += len(batch)
            if checkpoint is not None and done > len(start):
                checkpoint.save(picked[:done], last=done == count)
            if progress is not None:
                progress(done, count)
            if done < count:
                gaps.lower(batch, pool)
    return picked


@contextmanager
def worker_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that each multiply alone; threads inside of BLAS would wait after every block."""
    with (
        ThreadpoolController().limit(limits=1, user_api="blas"),
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        yield pool


def _check(cloud: PatchCloud, count: int, rows: NDArray[np.int64] | None) -> None:
    """Validate `count` and `rows`.

    Raises:
        ValueError: one of them is out of range.
    """
    available = len(cloud.features)
    if rows is not None:
        fits = rows.ndim == 1 and len(rows) > 0 and bool((np.diff(rows) > 0).all())
        fits = fits and rows[0] >= 0 and rows[-1] < available
        wanted = f"rows ascending from 0 to {available - 1} at most"
        require(fits, "select_coreset", wanted, rows)
        available = len(rows)
    require(1 <= count <= available, "select_coreset", f"count from 1 to {available}", count)


def _next(cloud: PatchCloud, gaps: PatchGaps, at_most: int) -> NDArray[np.int64]:
    """The next picks in order, at least one."""
    candidates, outside_gap, outside_row = gaps.widest(_CANDIDATES)
    inside = gaps.upper[candidates]
    if inside.max() == 0.0:  # only copies of picked rows are left
        return np.flatnonzero(gaps.upper == 0.0)[:at_most]
    points, floors = cloud.points(candidates), cloud.floors(candidates)
    batch: list[int] = []
    while len(batch) < min(at_most, _BATCH_PICKS):
        best = int(inside.argmax())
        row, gap = int(candidates[best]), inside[best]
        if gap <= 0.0 or (gap, -row) < (outside_gap, -outside_row):
            break
        batch.append(row)
        inside[best] = NEVER
        lower_bounds = floors + floors[best] - 2.0 * (points @ points[best])
        near = np.flatnonzero(lower_bounds <= inside)
        measured = cloud.measure(candidates[near], np.full_like(near, row))
        inside[near] = np.minimum(inside[near], measured)
    return np.array(batch, dtype=np.int64)
