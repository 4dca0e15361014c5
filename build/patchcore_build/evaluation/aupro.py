"""Anomaly maps (H, W) and masks -> pixel metrics, including AUPRO.

AUPRO (Bergmann et al. 2021, doi:10.1007/s11263-020-01400-4) is an area: the flagged share of each
defect region, averaged over regions, over the false-positive rate up to a limit, divided by the
limit. The computation is exact: the value of every pixel is a threshold.

Two protocols are common and give different figures, so each figure names its protocol. False
positives count among the normal pixels of all images, as in MVTec's own code, or of anomalous
images only.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from patchcore_build.evaluation.metrics import (
    BestF1,
    Confusion,
    Curve,
    Rates,
    Sweep,
    area_below,
    rates,
    sweep_sorted,
    thin_curve,
)

Protocol = Literal["all images", "anomalous images only"]
PROTOCOLS: tuple[Protocol, ...] = ("all images", "anomalous images only")
LIMITS = (0.30, 0.05)  # of the false-positive rate: Bergmann et al. 2021; MVTec AD 2


@dataclass(frozen=True, kw_only=True)
class PixelMetrics:
    """Pixel metrics of one test set; a metric that does not exist is None or left out."""

    regions: int
    auroc: float | None
    average_precision: float | None
    best_f1: BestF1 | None
    rates: Rates
    aupro: dict[tuple[Protocol, float], float]  # by protocol and limit
    pro_curves: tuple[Curve, ...]  # up to the largest limit, one for each protocol


class PixelScores:
    """Collects map values of normal pixels (4 bytes each) and defect pixels (about 100 bytes each).

    Args:
        capacity: Largest number of pixels; the memory is only used as they are added.
    """

    def __init__(self, capacity: int) -> None:
        # Normal pixels of good images fill the array from the front, of anomalous ones from the
        # back.
        self._normal = np.empty(capacity, np.float32)
        self._good, self._beside = 0, 0
        self._defects: list[NDArray[np.float32]] = []
        self._shares: list[NDArray[np.float64]] = []
        self._regions = 0

    def add(
        self,
        values: NDArray[np.float32],
        mask: NDArray[np.bool_],
        inside: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add the map of one image.

        Args:
            values: The map, (H, W), finite; any size, as long as the capacity suffices.
            mask: True on the defect, (H, W); an image without any True counts as good.
            inside: True for pixels that count, (H, W); the others are left out, and a defect's
                region ends where they begin. None if all pixels count.
        """
        if inside is not None:
            mask = mask & inside
        normal = values[~mask if inside is None else inside & ~mask]
        if not mask.any():
            self._normal[self._good : self._good + len(normal)] = normal
            self._good += len(normal)
            return
        stop = len(self._normal) - self._beside
        self._normal[stop - len(normal) : stop] = normal
        self._beside += len(normal)
        sizes, labels = _label_regions(mask)
        self._defects.append(values[mask])
        self._shares.append((1 / sizes)[labels[mask] - 1])
        self._regions += len(sizes)

    def measure(self, threshold: float) -> PixelMetrics:
        """Sort the collected values and compute every metric.

        Args:
            threshold: The pixel threshold; a value above it is flagged.
        """
        good, beside = self._normal[: self._good], self._normal[len(self._normal) - self._beside :]
        good.sort()
        beside.sort()
        defects, shares = self._sorted_defects()
        at_threshold = _confusion((good, beside), defects, threshold)
        parts = {PROTOCOLS[0]: [good, beside], PROTOCOLS[1]: [beside]}
        auroc = average_precision = best_f1 = None
        aupro: dict[tuple[Protocol, float], float] = {}
        curves = []
        for protocol, normal in parts.items():
            if not len(defects) or not any(map(len, normal)):
                continue
            counts = sweep_sorted(normal, defects)
            if protocol == PROTOCOLS[0]:
                auroc, average_precision = counts.auroc(), counts.average_precision()
                best_f1 = counts.best_f1()
            curve = pro_curve(counts, shares)
            aupro |= {(protocol, limit): area_below(*curve, limit) for limit in LIMITS}
            curves.append(thin_curve(*curve, protocol=protocol, limit=max(LIMITS)))
        return PixelMetrics(
            regions=self._regions,
            auroc=auroc,
            average_precision=average_precision,
            best_f1=best_f1,
            rates=rates(at_threshold),
            aupro=aupro,
            pro_curves=tuple(curves),
        )

    def _sorted_defects(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Values of defect pixels, rising, and for each of them 1 / (pixels of its region)."""
        if not self._defects:
            return np.empty(0, np.float32), np.empty(0)
        values, shares = np.concatenate(self._defects), np.concatenate(self._shares)
        self._defects, self._shares = [values], [shares]
        order = np.argsort(values)
        return values[order], shares[order]


def pro_curve(
    counts: Sweep, shares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the exact curve of mean region overlap over the false-positive rate.

    Args:
        counts: Counts over the protocol's normal pixels and all defect pixels.
        shares: 1 / (pixels of its region) for each defect pixel, in the order of their values.

    Returns:
        False-positive rates and overlaps, from (0, 0) to (1, 1); see `Sweep.trace`.
    """
    starts = counts.anomalous_count - counts.true_positives  # of each run of equal values
    return counts.trace(np.add.reduceat(shares, starts))


def _label_regions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Sizes of the regions, (R,), and the region number of each pixel, (H, W), 0 outside.

    Pixels that touch at a corner belong together, as in MVTec's evaluation code.
    """
    from scipy import ndimage  # imported here to keep --help and --version fast

    labels, _ = ndimage.label(mask, structure=np.ones((3, 3), np.int8))
    return np.bincount(labels.ravel())[1:], labels


def _confusion(
    normal_parts: tuple[NDArray[np.float32], ...], defects: NDArray[np.float32], threshold: float
) -> Confusion:
    """Count verdicts on sorted values; they are compared in float32, as in the runtime."""

    def above(values: NDArray[np.float32]) -> int:
        return len(values) - int(np.searchsorted(values, np.float32(threshold), side="right"))

    normal = sum(map(len, normal_parts))
    false_positives, true_positives = sum(map(above, normal_parts)), above(defects)
    return Confusion(
        threshold=threshold,
        true_positives=true_positives,
        false_positives=false_positives,
        true_negatives=normal - false_positives,
        false_negatives=len(defects) - true_positives,
    )
