"""Labels and scores -> AUROC, best F1, confusion; exact, ties counted as halves.

Source: AUROC as the Mann-Whitney statistic (Fawcett 2006, doi:10.1016/j.patrec.2005.10.010).
Scores of the two classes are sorted apart, so that tens of millions of pixels fit in memory.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts at a threshold: a score above it is called anomalous."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int


@dataclass(frozen=True, kw_only=True)
class BestF1:
    """The largest F1 over all thresholds; chosen on the test set, so an upper bound."""

    f1: float
    threshold: float


def auroc(normal: NDArray[np.floating], anomalous: NDArray[np.floating]) -> float:
    """Probability that an anomalous score lies above a normal one, a tie counting half.

    Args:
        normal: Scores of normal items, (n,), n >= 1.
        anomalous: Scores of anomalous items, (a,), a >= 1.
    """
    ordered = np.sort(normal)
    queries = np.sort(anomalous)  # sorted queries walk through memory in order
    below = np.searchsorted(ordered, queries, side="left").sum(dtype=np.float64)
    up_to = np.searchsorted(ordered, queries, side="right").sum(dtype=np.float64)
    return float((below + up_to) / 2 / (len(normal) * len(anomalous)))


def best_f1(normal: NDArray[np.floating], anomalous: NDArray[np.floating]) -> BestF1:
    """The threshold with the largest F1, when scores at or above it are called anomalous.

    Only thresholds at anomalous scores need trying: between two of them raising the threshold
    can only lose false positives.
    """
    thresholds = np.unique(anomalous)
    true_positives = len(anomalous) - np.searchsorted(np.sort(anomalous), thresholds, side="left")
    false_positives = len(normal) - np.searchsorted(np.sort(normal), thresholds, side="left")
    f1 = 2 * true_positives / (true_positives + false_positives + len(anomalous))
    best = int(f1.argmax())
    return BestF1(f1=float(f1[best]), threshold=float(thresholds[best]))


def confusion(
    normal: NDArray[np.floating], anomalous: NDArray[np.floating], threshold: float
) -> Confusion:
    """Count verdicts at a threshold, by the detector's own rule `score > threshold`."""
    false_positives = int((normal > threshold).sum())
    true_positives = int((anomalous > threshold).sum())
    return Confusion(
        threshold=threshold,
        true_positives=true_positives,
        false_positives=false_positives,
        true_negatives=len(normal) - false_positives,
        false_negatives=len(anomalous) - true_positives,
    )
