"""A stream of one statistic -> whether its distribution has changed, at a given false-alarm rate.

Values become normal scores by their rank among the calibration's values, so no distribution is
assumed. Two tests watch each statistic, each with half of the allowed rate. An exponentially
weighted moving average (EWMA, Roberts 1959) detects large shifts quickly. The two-sample
Kolmogorov-Smirnov distance of the last 50 values also detects a change of spread.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

WEIGHT = 0.1  # weight of the newest value in the EWMA
WINDOW = 50  # values in a Kolmogorov-Smirnov distance
STEP = 10  # values from one such distance to the next
_ENDS_AT = 0.5  # an alarm ends when the average is back within this share of its limit
_STATES = 51  # states of the Markov chain, odd


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The values above which the tests of one chart raise an alarm."""

    average: float  # of the absolute EWMA of normal scores
    distance: float  # of the Kolmogorov-Smirnov distance


@dataclass(frozen=True, eq=False)
class Normal:
    """Values of a statistic over `count` normal images, ascending, with their ranks from 0 on."""

    values: Sequence[float]
    ranks: Sequence[float]
    count: int

    def share_below(self, value: float) -> float:
        """Compute the value's quantile among the normal values, within (0, 1), interpolated."""
        low = bisect.bisect_left(self.values, value)
        high = bisect.bisect_right(self.values, value)
        if high > low:
            rank = (self.ranks[low] + self.ranks[high - 1]) / 2
        elif low == 0:
            rank = self.ranks[0] - 0.5
        elif low == len(self.values):
            rank = self.ranks[-1] + 0.5
        else:
            before, after = self.values[low - 1], self.values[low]
            inside = (value - before) / (after - before)
            rank = self.ranks[low - 1] + inside * (self.ranks[low] - self.ranks[low - 1])
        return (rank + 1) / (self.count + 1)


@dataclass(kw_only=True)
class Chart:
    """The state of one statistic's chart."""

    normal: Normal
    limits: Limits
    average: float = 0.0
    upward: bool = False  # whether only a rise raises an alarm
    window: list[float]  # the last values, at most 50, in order
    far: bool = False  # alarm of the EWMA
    unlike: bool = False  # alarm of the Kolmogorov-Smirnov distance

    def add(self, value: float, *, number: int) -> None:
        """Add the stream's next value; `number` counts the values from 1 on."""
        from statistics import NormalDist  # the import is slow, and `score` never needs it

        score = NormalDist().inv_cdf(self.normal.share_below(value))
        self.average += WEIGHT * (score - self.average)
        average = self.average if self.upward else abs(self.average)
        self.far = average > self.limits.average * (_ENDS_AT if self.far else 1.0)
        self.window.append(value)
        del self.window[:-WINDOW]
        if len(self.window) == WINDOW and number % STEP == 0:
            self.unlike = self.distance() > self.limits.distance

    def distance(self) -> float:
        """Compute the window's Kolmogorov-Smirnov distance, one-sided if only a rise counts."""
        places = np.sort([self.normal.share_below(value) for value in self.window])
        steps = np.arange(len(places) + 1) / len(places)
        above = float((places - steps[:-1]).max())
        return above if self.upward else max(above, float((steps[1:] - places).max()))


def limits_for(rate: float, count: int) -> Limits:
    """Compute limits that both tests together exceed for a share of `rate` of good images.

    The normal values are a sample themselves, so even an unchanged stream is centred slightly off.
    Both limits are widened by this uncertainty.

    Args:
        rate: False alarms per image, in (0, 0.05].
        count: Number of normal images.
    """
    spread = math.sqrt(WEIGHT / (2 - WEIGHT) + 1 / count)
    tail = min(1.0, rate / 2 * STEP)  # one distance is computed for each STEP images
    critical = math.sqrt(-math.log(tail / 2) / 2)  # upper bound by Kolmogorov's distribution
    return Limits(
        average=_ewma_limit(rate / 2) * spread,
        distance=critical * math.sqrt(1 / WINDOW + 1 / count),
    )


@lru_cache
def _ewma_limit(rate: float) -> float:
    """Compute the limit, in standard deviations of the average, reached once in 1/rate values."""
    low, high = 0.5, 7.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if _run_length(middle) < 1 / rate else (low, middle)
    return high


def _run_length(limit: float) -> float:
    """Compute the mean number of values until an EWMA of normal scores exceeds a limit.

    The average is modelled as a Markov chain (Brook & Evans 1972, Lucas & Saccucci 1990).
    """
    from statistics import NormalDist

    reach = limit * math.sqrt(WEIGHT / (2 - WEIGHT))
    edges = np.linspace(-reach, reach, _STATES + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    scores = (edges[None, :] - (1 - WEIGHT) * centres[:, None]) / WEIGHT
    below = np.vectorize(NormalDist().cdf)(scores)
    stay = np.diff(below, axis=1)
    lengths = np.linalg.solve(np.eye(_STATES) - stay, np.ones(_STATES))
    return float(lengths[_STATES // 2])
