"""Thresholds of a bank that has learned from one image: how much this image differs from itself.

With one image nothing is left to hold out. So each patch is compared with rows that come from
elsewhere in the same image, and the largest distance is the threshold. On six sets it was .55 to
1.2 of the score that 99 % of other good images stay below; nothing says how often one exceeds it.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.calibration.banks import TrainingFeatures, bank_of, choose_rows, open_scorer
from patchcore_build.calibration.gate import estimate_gate
from patchcore_build.calibration.held_out import QUIET_SHARE, SMALLEST_THRESHOLD
from patchcore_build.errors import DatasetError
from patchcore_runtime.bank.memory_bank import MemoryBank, squared_lengths
from patchcore_runtime.manifest.calibration import Calibration, HeatmapRange, thresholds_alone
from patchcore_runtime.scoring.gate import measure_gate
from patchcore_runtime.scoring.thresholds import above_dark_end

_REACH = 3  # cells to each side that count as the same place: layers see beyond their own cell
_METHOD = "one image: the largest distance of its patches to those of its other places"


def calibrate_with_one(training: TrainingFeatures, *, folder: Path) -> Calibration:
    """Take thresholds from the distances within the one image.

    Args:
        training: Features of one image, and perhaps of its copies and rotated views.
        folder: Temporary folder for a bank.

    Raises:
        DatasetError: the image is so small, or its bank, that no row comes from elsewhere.
    """
    image = 0
    rows = choose_rows(training, np.array([image]), name="one-image")
    bank = bank_of(training, rows)
    scorer = open_scorer(training, bank, folder)
    distances, nearest = distances_elsewhere(training, bank, image)
    anomaly_map = scorer.map_of(distances)
    region = training.store.region
    inside = ... if region is None else region.pixels
    low = float(np.quantile(anomaly_map[inside], QUIET_SHARE))
    by_map = training.config.image_score == "map"
    largest = anomaly_map if by_map else scorer.levels(distances)
    pixel = above_dark_end(float(anomaly_map.max()), low)
    counts = None if region is None else region.patches
    return thresholds_alone(
        image=max(float(largest.max()), SMALLEST_THRESHOLD),
        pixel=pixel,
        heatmap=HeatmapRange(low=low, high=2 * pixel - low),
        method=_METHOD,
        gate=estimate_gate([measure_gate(distances, nearest, counts)]),
    )


def distances_elsewhere(
    training: TrainingFeatures, bank: MemoryBank, image: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the nearest row from elsewhere of each patch of an image.

    Args:
        training: Features of the image.
        bank: Rows of the same image.
        image: Its number.

    Returns:
        Distances (h, w), 0 outside the region of interest and where no row is elsewhere; and the
        rows (h, w).

    Raises:
        DatasetError: no patch has a row elsewhere.
    """
    store = training.store
    height, width = store.cells
    reach = min(_REACH, min(height, width) // 4)
    rows, places = bank.whole_rows(np.arange(bank.rows)), bank.origins[:, 1:]
    distances = np.full((height, width), -1, np.float32)
    found = np.zeros((height, width), np.int64)
    for y in range(height):
        line = np.arange(y * width, (y + 1) * width)
        patches = np.hstack(store.take(store.owned_rows(image, line)))
        squares = squared_lengths(patches)[:, None] + bank.norms - 2 * (patches @ rows.T)
        near = np.abs(places[:, 1] - np.arange(width)[:, None]) <= reach
        squares[near & (np.abs(places[:, 0] - y) <= reach)] = np.inf
        found[y] = squares.argmin(axis=1)
        nearest = squares.min(axis=1)
        distances[y] = np.where(np.isfinite(nearest), np.sqrt(np.maximum(nearest, 0)), -1)
    if store.region is not None:
        distances = np.where(store.region.patches, distances, np.float32(-1))
    if distances.max() < 0:
        raise DatasetError(
            f"one image: expected rows of the bank more than {reach} patches from others, got "
            f"{bank.rows} rows on {height} x {width} patches; choose a larger --coreset-ratio or "
            "--resize-px, or learn from two images or more"
        )
    return np.maximum(distances, 0), found
