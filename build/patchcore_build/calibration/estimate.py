"""Estimate a threshold for a false-alarm rate from held-out scores (n,), and its confidence.

The rules are those of `patchcore_runtime.scoring.thresholds`, which the runtime applies:

- If (n + 1)·rate is at least 3: the conformal order statistic of rank ceil((n + 1)(1 - rate)) (Vovk
  et al. 2005). Its 90 % interval are two order statistics (David & Nagaraja 2003, section 7.1).
- Otherwise: a generalised Pareto tail over the upper quarter of the scores (10 to 50 of them). It
  is fitted by probability-weighted moments (Hosking & Wallis 1987), which beat maximum likelihood
  below 500 values. The shape is shrunk towards 0, the exponential, as if by 20 more values, and
  clipped to ±0.5. The interval is a seeded parametric bootstrap.
- Below 30 images the interval is at least that of a log-normal distribution (`_widened`).

benchmarks/studies/thresholds.py measures where one rule should end and the other begin.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.manifest.calibration import HeldOut, Tail
from patchcore_runtime.scoring.thresholds import (
    FEW_IMAGES,
    conformal_rank,
    tail_quantile,
    uses_tail,
)

CONFIDENCE = 0.9  # of every interval
_FEWEST, _MOST = 10, 50  # values of a tail, if there are enough scores
_SHRINKING_VALUES = 20  # the shape is shrunk to 0 as if by so many more values
_LARGEST_SHAPE = 0.5
_RESAMPLES = 400
_SMALLEST_SPREAD = 0.03  # of log scores; bottle has 0.063, hazelnut 0.045, transistor 0.037
_LARGEST_LOG = 80.0  # of an interval's end: float32 holds e^80
_ALL_RANKS = 500  # up to this number every score is stored
_SMALLEST_FACTOR = 0.8
_CORRECTED = 0.5  # share of the estimated bias; correcting all of it gave too many false alarms
_FEWEST_PAIRS = 20  # with fewer pairs the median of their ratios is too uncertain

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A threshold, the 90 % interval around the true quantile, and the method of estimation."""

    value: float
    low: float
    high: float
    method: str


def find_threshold(
    scores: Array, rate: float, *, seed: int, independent: int | None = None
) -> Threshold:
    """Estimate the value that a share of about `rate` of new good images exceeds.

    Args:
        scores: Scores of n held-out good images, n >= 2.
        rate: False-alarm rate, in (0, 1).
        seed: Seed of the bootstrap.
        independent: How many of the scores are independent: the number of groups; default n.
    """
    ordered = np.sort(scores)
    return _widened(_estimate(ordered, rate, seed=seed), ordered, rate, independent or len(scores))


def _estimate(ordered: Array, rate: float, *, seed: int) -> Threshold:
    """The threshold; its interval takes all scores as independent and the tail as true."""
    if uses_tail(len(ordered), rate):
        return _from_tail(ordered, rate, seed=seed)
    low, high = _interval_ranks(len(ordered), rate)
    return Threshold(
        value=float(ordered[conformal_rank(len(ordered), rate) - 1]),
        low=float(ordered[low - 1]),
        high=float(ordered[high - 1]),
        method="order statistic",
    )


def _widened(found: Threshold, ordered: Array, rate: float, independent: int) -> Threshold:
    """The threshold with an interval that contains the one of a log-normal distribution, too.

    A bootstrap draws from the few given scores, so it cannot show how little they say. Below
    FEW_IMAGES independent scores the interval is therefore at least the exact one for a quantile
    of a normal distribution whose mean and spread are unknown (noncentral t; Owen 1968).
    """
    if independent >= FEW_IMAGES or independent < 2 or ordered[-1] <= 0:
        return found
    from scipy.special import nctdtrit
    from scipy.stats import norm

    logs = np.log(np.maximum(ordered, ordered[-1] * 1e-3))
    spread = max(float(logs.std(ddof=1)), _SMALLEST_SPREAD)
    root, ends = math.sqrt(independent), ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    shift = float(norm.isf(rate)) * root
    low, high = (float(nctdtrit(independent - 1, shift, end)) / root for end in ends)
    centre = float(logs.mean())
    return replace(
        found,
        low=min(found.low, math.exp(centre + spread * low)),
        high=max(found.high, math.exp(min(centre + spread * high, _LARGEST_LOG))),
    )


def _interval_ranks(count: int, rate: float) -> tuple[int, int]:
    """Ranks of the two scores between which the true quantile lies with a probability of 90 %."""
    from scipy.stats import binom

    # Of `count` scores, binomially many lie below the true (1 - rate)-quantile.
    low = int(binom.ppf((1 - CONFIDENCE) / 2, count, 1 - rate))
    high = int(binom.ppf((1 + CONFIDENCE) / 2, count, 1 - rate)) + 1
    rank = conformal_rank(count, rate)
    return max(1, min(low, rank)), min(count, max(high, rank))


def _from_tail(ordered: Array, rate: float, *, seed: int) -> Threshold:
    count = len(ordered)
    tail = fit_tail(ordered)
    value = _tail_threshold(ordered, tail, rate)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_RESAMPLES):
        again = np.sort(_draw(ordered, tail, rng))
        found.append(_tail_threshold(again, fit_tail(again), rate))
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Threshold(
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        method=f"generalised Pareto tail over the largest {_tail_size(count)} scores",
    )


def _tail_threshold(ordered: Array, tail: Tail, rate: float) -> float:
    """The runtime's `threshold_at`: the tail's quantile, but not below the second largest score."""
    return max(float(ordered[max(0, len(ordered) - 2)]), tail_quantile(tail, rate))


def _draw(ordered: Array, tail: Tail, rng: np.random.Generator) -> Array:
    """Resample as many scores: the body from the given scores, the rest from the fitted tail."""
    count = len(ordered)
    body = ordered[: count - _tail_size(count)]
    inside = int(rng.binomial(count, tail.share))
    shares = tail.share * (1 - rng.random(inside))  # in (0, share]
    beyond = [tail_quantile(tail, float(share)) for share in shares]
    return np.concatenate([rng.choice(body, count - inside), beyond])


def fit_tail(ordered: Array) -> Tail:
    """Fit a generalised Pareto tail to the largest of n >= 2 sorted scores."""
    count = len(ordered)
    size = _tail_size(count)
    level = float(ordered[count - size - 1])
    excesses = ordered[count - size :] - level  # ascending
    mean = float(excesses.mean())
    shape = _shape(excesses)
    smallest = 1e-9 * max(1e-3, abs(float(ordered[-1])))  # if all scores are equal
    return Tail(
        level=level,
        share=(size + 1) / (count + 1),  # the tail meets the order statistics at its level
        scale=max(mean * (1 - shape), smallest),
        shape=shape,
    )


def _tail_size(count: int) -> int:
    return min(count - 1, max(_FEWEST, min(_MOST, round(count / 4))))


def _shape(excesses: Array) -> float:
    """The shape by probability-weighted moments, 2 - a0 / (a0 - 2 a1), shrunk and clipped."""
    size = len(excesses)
    if size < 3:
        return 0.0
    places = (np.arange(1, size + 1) - 0.35) / size
    first = float(excesses.mean())  # a0
    second = float(((1 - places) * excesses).mean())  # a1
    if first - 2 * second <= 0:
        return 0.0
    raw = 2 - first / (first - 2 * second)
    shrunk = size * raw / (size + _SHRINKING_VALUES)
    return min(max(shrunk, -_LARGEST_SHAPE), _LARGEST_SHAPE)


def estimate_bias(full: Array, lean: Array, *, share: float, lean_share: float) -> float:
    """Estimate how much smaller scores become when the bank grows from `share` to all images.

    A patch's nearest distance falls like n^-b with the number n of images. The median ratio of the
    same images' scores from lean and full banks gives b. Median scores of unseen images confirm b,
    but their largest scores shrink less, and one false alarm too many costs more than one too few.
    So half of it is corrected (benchmarks/results/thresholds.md compares none, half and all).

    Args:
        full: Scores from banks of `share` of the images, (n,).
        lean: Scores of the same images from banks of `lean_share` of the images, (n,).
        share: In (0, 1).
        lean_share: In (0, share).

    Returns:
        share^(b/2), clipped to [0.8, 1]; 1 if fewer than 20 pairs have positive scores.
    """
    both = (full > 0) & (lean > 0)
    if both.sum() < _FEWEST_PAIRS or not lean_share < share < 1:
        return 1.0
    growth = float(np.median(np.log(lean[both] / full[both])))
    power = _CORRECTED * growth / np.log(share / lean_share)
    return float(np.clip(share**power, _SMALLEST_FACTOR, 1.0))


def stored_ranks(count: int) -> tuple[int, ...]:
    """Ranks of the sorted scores that an artifact stores: all, or 400 and the 100 largest."""
    if count <= _ALL_RANKS:
        return tuple(range(1, count + 1))
    spread = np.linspace(1, count - 100, _ALL_RANKS - 100).round().astype(int)
    return (*np.unique(spread).tolist(), *range(count - 99, count + 1))


def describe_scores(scores: Array, bias: float) -> HeldOut:
    """The part of n held-out scores, already multiplied with `bias`, that an artifact stores."""
    ordered = np.sort(scores)
    values = tuple(float(ordered[rank - 1]) for rank in stored_ranks(len(ordered)))
    return HeldOut(bias=bias, values=values, tail=fit_tail(ordered))
