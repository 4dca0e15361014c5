"""Image scores and a threshold -> counts for a histogram.

A bar ends exactly at the threshold, so no bar holds both verdicts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BINS = 32  # about; the threshold is always an edge


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """Counts of scores in (edges[i], edges[i + 1]]; `edges` (n + 1,), each of `counts` (n,)."""

    edges: NDArray[np.float64]
    counts: dict[str, NDArray[np.int64]]


def bin_scores(scores: Mapping[str, Sequence[float]], threshold: float) -> Histogram:
    """Count scores in equal bins, one of whose edges is the threshold.

    Bins are open below and closed above, as a score on the threshold is not flagged.

    Args:
        scores: Of each kind of image, finite; a kind may have none.
        threshold: Of the scores.

    Returns:
        Counts of the same kinds in the same order.
    """
    everything = [*(score for of_kind in scores.values() for score in of_kind), threshold]
    low, high = min(everything), max(everything)
    # Equal scores need bins of some width too.
    width = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-30) / _BINS
    first = min(math.ceil((low - threshold) / width) - 1, -1)
    last = max(math.ceil((high - threshold) / width) - 1, 0)

    def count(of_kind: Sequence[float]) -> NDArray[np.int64]:
        steps = np.ceil((np.array(of_kind, np.float64) - threshold) / width).astype(np.int64) - 1
        return np.bincount(steps - first, minlength=last - first + 1).astype(np.int64)

    edges = threshold + np.arange(first, last + 2, dtype=np.float64) * width
    return Histogram(edges=edges, counts={kind: count(each) for kind, each in scores.items()})
