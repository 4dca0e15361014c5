"""Scores of normal and anomalous items -> AUROC, average precision, F1 and rates; exact, with ties.

Sources: AUROC as the Mann-Whitney statistic (Fawcett 2006, doi:10.1016/j.patrec.2005.10.010);
average precision as scikit-learn defines it. The two classes are sorted separately, and only the
anomalous scores are thresholds, so that tens of millions of normal pixels cost one sort.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CURVE_POINTS = 200  # of a stored curve, at most


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts at a threshold: a score above it is called anomalous."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Rates at a threshold: a score above it is called anomalous. None: the class has no items."""

    threshold: float
    true_positive_rate: float | None
    false_positive_rate: float | None
    f1: float | None


@dataclass(frozen=True, kw_only=True)
class BestF1:
    """The largest F1 over all thresholds; it is chosen on the test set, so it is an upper bound."""

    f1: float
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Up to CURVE_POINTS points of an exact curve, both coordinates rising."""

    protocol: str  # which normal items were counted
    false_positive_rates: tuple[float, ...]
    rates: tuple[float, ...]  # true-positive rate (ROC) or mean overlap with the regions (PRO)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """Counts of flagged items at each useful threshold: the anomalous scores, rising.

    Between two of them a higher threshold can only remove false positives.
    """

    thresholds: NDArray[np.floating]  # (T,), distinct
    true_positives: NDArray[np.int64]  # (T,), anomalous scores at or above the threshold
    false_positives: NDArray[np.int64]  # (T,), normal ones at or above
    false_positives_above: NDArray[np.int64]  # (T,), normal ones above
    normal_count: int

    @property
    def anomalous_count(self) -> int:
        """Number of anomalous items; the lowest threshold flags them all."""
        return int(self.true_positives[0])

    @property
    def hits(self) -> NDArray[np.int64]:
        """Number of anomalous items whose score equals the threshold, (T,)."""
        return -np.diff(self.true_positives, append=0)

    def auroc(self) -> float:
        """Probability that an anomalous score lies above a normal one, a tie counting half."""
        # Normal items below a threshold count twice, and those equal to it once.
        lower = 2 * self.normal_count - self.false_positives - self.false_positives_above
        pairs = 2 * self.normal_count * self.anomalous_count
        return float(np.dot(self.hits.astype(np.float64), lower) / pairs)

    def average_precision(self) -> float:
        """Mean, over the anomalous items, of the precision at each one's score."""
        precision = self.true_positives / (self.true_positives + self.false_positives)
        return float(np.dot(self.hits, precision) / self.anomalous_count)

    def best_f1(self) -> BestF1:
        """The threshold with the largest F1, when scores at or above it are called anomalous."""
        flagged = self.true_positives + self.false_positives
        f1 = 2 * self.true_positives / (flagged + self.anomalous_count)
        best = int(f1.argmax())
        return BestF1(f1=float(f1[best]), threshold=float(self.thresholds[best]))

    def trace(self, gains: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Compute the exact curve of a rate of anomalous items over the false-positive rate.

        Args:
            gains: How much the items at each threshold add to the rate, (T,), in all 1.

        Returns:
            False-positive rates and rates, (2T + 2,) each, from (0, 0) to (1, 1): a flat piece up
            to each threshold, then a step, slanted if normal items have the same score.
        """
        steps = 2 * len(self.thresholds)
        across, upward = np.zeros(steps + 2), np.zeros(steps + 2)
        across[1:-1:2] = self.false_positives_above[::-1]
        across[2:-1:2] = self.false_positives[::-1]
        across /= self.normal_count
        np.cumsum(gains[::-1], out=upward[2:-1:2])
        upward[2:-1:2] /= upward[steps]  # a long sum may not end at 1 exactly
        upward[3:-1:2] = upward[2:-2:2]
        across[-1] = upward[-1] = 1
        return across, upward

    def roc(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """False- and true-positive rates of every threshold; see `trace`."""
        return self.trace(self.hits / self.anomalous_count)


def sweep(normal: NDArray[np.floating], anomalous: NDArray[np.floating]) -> Sweep:
    """Count at every threshold: `sweep_sorted` with sorted copies."""
    return sweep_sorted([np.sort(normal)], np.sort(anomalous))


def sweep_sorted(
    normal_parts: Sequence[NDArray[np.floating]], anomalous: NDArray[np.floating]
) -> Sweep:
    """Count at every threshold.

    Args:
        normal_parts: Finite scores of normal items in any number of sorted arrays, at least one
            score in all. Their dtype is that of `anomalous`, since a conversion would copy them.
        anomalous: Finite scores of anomalous items, (a,), a >= 1, sorted.
    """
    is_first = np.append(True, anomalous[1:] != anomalous[:-1])
    thresholds = anomalous[is_first]
    at_or_above = np.zeros(len(thresholds), np.int64)
    above = np.zeros(len(thresholds), np.int64)
    for part in normal_parts:
        at_or_above += len(part) - np.searchsorted(part, thresholds, side="left")
        above += len(part) - np.searchsorted(part, thresholds, side="right")
    return Sweep(
        thresholds=thresholds,
        true_positives=len(anomalous) - np.flatnonzero(is_first),
        false_positives=at_or_above,
        false_positives_above=above,
        normal_count=sum(len(part) for part in normal_parts),
    )


def auroc(normal: NDArray[np.floating], anomalous: NDArray[np.floating]) -> float:
    """Probability that an anomalous score lies above a normal one, a tie counting half.

    Args:
        normal: Scores of normal items, (n,), n >= 1.
        anomalous: Scores of anomalous items, (a,), a >= 1.
    """
    return sweep(normal, anomalous).auroc()


def average_precision(normal: NDArray[np.floating], anomalous: NDArray[np.floating]) -> float:
    """Area under the precision-recall curve, as steps and without interpolation.

    Args:
        normal: Scores of normal items, (n,); without any, the result is 1.
        anomalous: Scores of anomalous items, (a,), a >= 1.
    """
    return sweep(normal, anomalous).average_precision()


def best_f1(normal: NDArray[np.floating], anomalous: NDArray[np.floating]) -> BestF1:
    """The threshold with the largest F1, when scores at or above it are called anomalous."""
    return sweep(normal, anomalous).best_f1()


def confusion(
    normal: NDArray[np.floating], anomalous: NDArray[np.floating], threshold: float
) -> Confusion:
    """Count verdicts at a threshold by the detector's rule, `score > threshold`."""
    false_positives = int(np.count_nonzero(normal > threshold))
    true_positives = int(np.count_nonzero(anomalous > threshold))
    return Confusion(
        threshold=threshold,
        true_positives=true_positives,
        false_positives=false_positives,
        true_negatives=len(normal) - false_positives,
        false_negatives=len(anomalous) - true_positives,
    )


def rates(counts: Confusion) -> Rates:
    """True- and false-positive rate and F1 at a threshold; None if a class has no items."""
    anomalous = counts.true_positives + counts.false_negatives
    normal = counts.false_positives + counts.true_negatives
    flagged = counts.true_positives + counts.false_positives
    return Rates(
        threshold=counts.threshold,
        true_positive_rate=counts.true_positives / anomalous if anomalous else None,
        false_positive_rate=counts.false_positives / normal if normal else None,
        f1=2 * counts.true_positives / (flagged + anomalous) if anomalous and normal else None,
    )


def area_below(across: NDArray[np.float64], upward: NDArray[np.float64], limit: float) -> float:
    """Mean height of a curve over [0, `limit`], straight between its points.

    Args:
        across: Rising from 0 to 1, ties allowed.
        upward: Height of the curve at these points, 0 to 1.
        limit: In (0, 1]; the curve is cut at this limit by interpolation.
    """
    stop = int(np.searchsorted(across, limit, side="right"))
    x, y = across[:stop], upward[:stop]
    area = float(np.dot(np.diff(x), y[1:] + y[:-1])) / 2
    if stop < len(across):  # the piece that crosses the limit, up to it
        share = (limit - x[-1]) / (across[stop] - x[-1])
        cut = y[-1] + share * (upward[stop] - y[-1])
        area += float((limit - x[-1]) * (y[-1] + cut)) / 2
    return min(1.0, area / limit)


def thin_curve(
    across: NDArray[np.float64], upward: NDArray[np.float64], *, protocol: str, limit: float = 1.0
) -> Curve:
    """Select points of an exact curve at even steps along it, including its ends.

    Args:
        across: Rising from 0 to 1, ties allowed.
        upward: Height of the curve at these points, rising.
        protocol: Which normal items were counted.
        limit: Points to the right of this limit are left out, except for the first of them.
    """
    stop = min(len(across), int(np.searchsorted(across, limit, side="right")) + 1)
    x, y = across[:stop], upward[:stop]
    walked = np.append(0, np.cumsum(np.diff(x) + np.diff(y)))
    picks = np.flatnonzero(np.append(True, np.diff(walked) > 0))
    if len(picks) > CURVE_POINTS:
        picks = np.unique(np.searchsorted(walked, np.linspace(0, walked[-1], CURVE_POINTS)))
    return Curve(
        protocol=protocol,
        false_positive_rates=tuple(x[picks].tolist()),
        rates=tuple(y[picks].tolist()),
    )
