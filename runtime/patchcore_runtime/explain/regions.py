"""Connected regions of an anomaly map above a threshold, as shapes for other programs.

map (H, W) + threshold -> regions: box, area, peak and contour. Pixels that touch at a side or a
corner are connected. The mask is split into runs, the connected pixels of one row. Runs of adjacent
rows are joined by label propagation with pointer jumping (Shiloach and Vishkin 1982). No step
iterates over pixels in Python, so a large photograph takes only milliseconds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.explain.contours import outer_contours, simplify

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two excluded
TOLERANCE_PX = 1.0  # largest distance of a simplified contour from the exact one


@dataclass(frozen=True, kw_only=True)
class AnomalyRegion:
    """One connected region; all lengths are in pixels of the anomaly map given."""

    box: Box
    area: int
    peak: tuple[int, int]  # (y, x) of the largest value
    peak_value: float  # in map units
    contour: tuple[tuple[int, int], ...]  # (y, x) of pixel corners, clockwise, not closed


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """The R runs of a mask in reading order."""

    row: NDArray[np.int64]  # (R,)
    start: NDArray[np.int64]  # (R,) first column
    stop: NDArray[np.int64]  # (R,) the column after the last
    label: NDArray[np.int64]  # (R,) the first run of its region


def find_regions(
    anomaly_map: NDArray[np.float32], threshold: float, *, tolerance_px: float = TOLERANCE_PX
) -> tuple[AnomalyRegion, ...]:
    """Find every region above the threshold, the highest peak first.

    Args:
        anomaly_map: (H, W).
        threshold: Pixels strictly above it count.
        tolerance_px: Simplified contours move by at most this distance; 0 keeps every corner.

    Returns:
        The regions; their areas sum to the number of pixels above the threshold. A contour is the
        outer one, so it includes the holes of a region.
    """
    runs = label_runs(anomaly_map > threshold)
    firsts, region = np.unique(runs.label, return_inverse=True)
    if not len(firsts):
        return ()
    peaks, peak_columns = _run_peaks(anomaly_map, runs)
    areas = np.bincount(region, runs.stop - runs.start).astype(np.int64)
    left, right = np.full(len(firsts), anomaly_map.shape[1]), np.zeros(len(firsts), np.int64)
    np.minimum.at(left, region, runs.start)
    np.maximum.at(right, region, runs.stop)
    bottom = np.zeros(len(firsts), np.int64)
    np.maximum.at(bottom, region, runs.row + 1)
    # Sort by region, then by descending peak; lexsort keeps ties in reading order.
    best = np.lexsort((-peaks, region))
    best = best[np.unique(region[best], return_index=True)[1]]
    contours = outer_contours(runs.row, runs.start, runs.stop, firsts)
    regions = [
        AnomalyRegion(
            box=(int(runs.row[first]), int(left[i]), int(bottom[i]), int(right[i])),
            area=int(areas[i]),
            peak=(int(runs.row[best[i]]), int(peak_columns[best[i]])),
            peak_value=float(peaks[best[i]]),
            contour=tuple((int(y), int(x)) for y, x in simplify(contours[i], tolerance_px)),
        )
        for i, first in enumerate(firsts)
    ]
    return tuple(sorted(regions, key=lambda one: -one.peak_value))


def label_runs(mask: NDArray[np.bool_]) -> Runs:
    """Find the runs of a mask (H, W), and label runs that touch at a side or a corner alike."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.bool_)
    padded[:, 1:-1] = mask
    edges = np.flatnonzero(padded[:, 1:] != padded[:, :-1])  # starts and stops alternate
    row, start = np.divmod(edges[::2], width + 1)
    stop = edges[1::2] % (width + 1)
    return Runs(row=row, start=start, stop=stop, label=_join(*_touching(row, start, stop, width)))


def _touching(
    row: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64], width: int
) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Return R, and the pairs of touching runs in adjacent rows: upper runs and lower runs.

    The lower runs that touch [start, stop) have start' <= stop and stop' >= start. They form a
    range, since the runs of a row do not touch each other.
    """
    pitch = width + 2
    first = np.searchsorted(row * pitch + stop, (row + 1) * pitch + start, "left")
    last = np.searchsorted(row * pitch + start, (row + 1) * pitch + stop, "right")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(row)), counts)
    steps = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts)
    return len(row), upper, np.repeat(first, counts) + steps


def _join(count: int, upper: NDArray[np.int64], lower: NDArray[np.int64]) -> NDArray[np.int64]:
    """Compute the smallest member of each run's connected component, (R,)."""
    label = np.arange(count)
    while True:
        above, below = label[upper], label[lower]
        if (above == below).all():
            return label
        least = np.minimum(above, below)
        np.minimum.at(label, above, least)
        np.minimum.at(label, below, least)
        while ((jumped := label[label]) != label).any():
            label = jumped


def _run_peaks(
    anomaly_map: NDArray[np.float32], runs: Runs
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Compute the largest value of each run and its first column."""
    lengths = runs.stop - runs.start
    owner = np.repeat(np.arange(len(lengths)), lengths)
    column = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths - runs.start, lengths)
    values = anomaly_map[runs.row[owner], column]
    peaks = np.maximum.reduceat(values, np.cumsum(lengths) - lengths)
    highest = np.flatnonzero(values == peaks[owner])
    firsts = highest[np.unique(owner[highest], return_index=True)[1]]
    return peaks, column[firsts]
