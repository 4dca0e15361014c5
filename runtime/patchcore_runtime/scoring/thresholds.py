"""Held-out scores of good images -> the p-value of a score, and the threshold for a rate.

Within the scores the threshold is an order statistic, as in conformal prediction (Vovk et al.
2005): a share of about `rate` of new good images lies above it. If fewer than three held-out
scores may lie above it, a generalised Pareto tail gives the threshold (Pickands 1975). Both
directions agree: a score lies above `threshold_at(rate)` if and only if its `p_value` is at most
`rate`.
"""

import bisect
import dataclasses
import math

from patchcore_runtime.errors import ThresholdError
from patchcore_runtime.manifest.calibration import Calibration, HeldOut, Tail
from patchcore_runtime.scoring.gate import describe_gate

# With fewer, no order statistic lies above the quantile with 95 % confidence: 0.95 = 1 - exp(-3).
MIN_BEYOND = 3
FEW_IMAGES = 30  # with fewer, a threshold says little about images to come
MAX_EXTRAPOLATION = 100  # a rate may be this much smaller than 1/(n + 1), the smallest one observed


def p_value(calibration: Calibration, scores: HeldOut, value: float) -> float:
    """Compute the share of good images that are at least as strange, `smallest_rate` to 1.

    Between two stored ranks it is the larger share. The tail is a guess below `smallest_rate`, so
    no smaller value is returned. Without held-out scores it is 1.

    Args:
        calibration: The calibration that `scores` belong to.
        scores: Its `image_scores`, or its `map_maxima`.
        value: A score, or a map's maximum.
    """
    count = calibration.images
    if count == 0:
        return 1.0
    below = bisect.bisect_left(scores.values, value)
    above = count - (calibration.ranks[below - 1] if below else 0)  # held-out scores >= value
    share = (above + 1) / (count + 1)
    if above + 1 >= MIN_BEYOND:
        return share
    share = min(1.0, MIN_BEYOND / (count + 1), tail_share(scores.tail, value))
    return max(share, smallest_rate(count))


def threshold_at(calibration: Calibration, scores: HeldOut, rate: float) -> float:
    """Compute the value that a share of about `rate` of good images exceeds.

    It never rises with `rate`.

    Args:
        calibration: The calibration that `scores` belong to.
        scores: Its `image_scores`, or its `map_maxima`.
        rate: Wanted false-alarm rate, `smallest_rate` to below 1.

    Raises:
        ThresholdError: too few images support this rate.
    """
    count = calibration.images
    check_rate(count, rate)
    if uses_tail(count, rate):
        first = _stored(calibration, scores, max(1, min(count, count + 2 - MIN_BEYOND)))
        return max(first, tail_quantile(scores.tail, rate))
    return _stored(calibration, scores, conformal_rank(count, rate))


def check_rate(count: int, rate: float) -> None:
    """Refuse a false-alarm rate that `count` held-out scores cannot support.

    Raises:
        ThresholdError: the rate is not in [smallest_rate, 1).
    """
    if count == 0:
        raise ThresholdError(
            "target false-alarm rate: expected an artifact with held-out scores, got one that has "
            "thresholds alone, imported or learned from one image; choose a threshold instead"
        )
    smallest = smallest_rate(count)
    if not smallest <= rate < 1:
        raise ThresholdError(
            f"target false-alarm rate: expected {smallest:.2g} to below 1, got {rate:.4g}; the "
            f"artifact was calibrated on {count} images, which cannot support a rarer rate; "
            "choose a rate in this range, or fit with more images"
        )


def smallest_rate(count: int) -> float:
    """Return the smallest false-alarm rate to which `count` held-out scores are extrapolated."""
    return 1 / (MAX_EXTRAPOLATION * (count + 1))


def uses_tail(count: int, rate: float) -> bool:
    """Return whether too few of `count` scores lie above the threshold for an order statistic."""
    return (count + 1) * rate < MIN_BEYOND - 1e-9


def conformal_rank(count: int, rate: float) -> int:
    """Return the rank, from 1 on, of the sorted score that is the threshold for a rate."""
    return max(1, math.ceil((count + 1) * (1 - rate) - 1e-9))


def tail_share(tail: Tail, value: float) -> float:
    """Compute the share of good images above a value, (0, 1]; `tail.share` up to `tail.level`."""
    reach = max(0.0, value - tail.level) / tail.scale
    if abs(tail.shape) < 1e-9:
        return max(tail.share * math.exp(-min(reach, 700.0)), 5e-324)
    base = max(0.0, 1 + tail.shape * reach)  # 0 beyond the end of a bounded tail
    return max(tail.share * math.pow(base, -1 / tail.shape), 5e-324)


def tail_quantile(tail: Tail, rate: float) -> float:
    """Compute the value that a share of `rate` exceeds: `tail_share` inverted, from `level` on."""
    depth = math.log(tail.share / rate)
    if depth <= 0:
        return tail.level
    stretch = depth if abs(tail.shape) < 1e-9 else math.expm1(tail.shape * depth) / tail.shape
    return tail.level + tail.scale * stretch


def with_thresholds(
    calibration: Calibration, *, threshold: float | None, target_fpr: float | None
) -> Calibration:
    """Return the calibration with other thresholds, from the stored scores and without a new fit.

    Only a fit estimates intervals; the interval of a replaced threshold shrinks to the threshold.

    Args:
        calibration: The artifact's calibration.
        threshold: Another image threshold; the pixel threshold is unchanged.
        target_fpr: Another false-alarm rate, for both thresholds. The heat map's bright end
            moves along, so that the pixel threshold remains the middle of the scale.

    Raises:
        ThresholdError: both are given, or one is out of range.
    """
    if threshold is not None and target_fpr is not None:
        raise ThresholdError(
            "threshold and target false-alarm rate: expected one of them, got both"
        )
    if threshold is not None:
        if not 0 < threshold < math.inf:
            raise ThresholdError(f"threshold: expected a number above 0, got {threshold:.4g}")
        given = float(threshold)
        return dataclasses.replace(
            calibration, image_threshold=given, image_interval=(given, given)
        )
    if target_fpr is None:
        return calibration
    image = threshold_at(calibration, calibration.image_scores, target_fpr)
    low = calibration.heatmap.low
    pixel = above_dark_end(threshold_at(calibration, calibration.map_maxima, target_fpr), low)
    return dataclasses.replace(
        calibration,
        target_fpr=float(target_fpr),
        image_threshold=image,
        image_interval=(image, image),
        pixel_threshold=pixel,
        pixel_interval=(pixel, pixel),
        heatmap=dataclasses.replace(calibration.heatmap, high=2 * pixel - low),
    )


def above_dark_end(pixel_threshold: float, low: float) -> float:
    """Raise a pixel threshold to a little above the heat map's dark end, so the scale shows it."""
    return max(pixel_threshold, low + 1e-6 * max(1.0, abs(low)))


def describe_calibration(calibration: Calibration) -> dict[str, str]:
    """Describe the thresholds and how far to trust them, as lines for a person."""
    count, rate = calibration.images, calibration.target_fpr
    if count == 0:
        return {
            "image threshold": f"{calibration.image_threshold:.6g}",
            "pixel threshold": f"{calibration.pixel_threshold:.6g}",
            "false alarms": "not known: no held-out scores",
            "method": calibration.method,
            "gate": describe_gate(calibration.gate),
        }
    groups = "" if calibration.groups == count else f" in {calibration.groups} groups"
    far = "extrapolated beyond the scores: " if uses_tail(count, rate) else "within the scores: "
    more = math.ceil(MIN_BEYOND / rate) - 1
    hint = (
        f"; with {more} or more images the threshold would be a plain order statistic"
        if uses_tail(count, rate)
        else ""
    )
    return {
        "image threshold": _between(calibration.image_threshold, calibration.image_interval),
        "pixel threshold": _between(calibration.pixel_threshold, calibration.pixel_interval),
        "false alarms": (
            f"target {rate:.3g} of good images, about 1 in {1 / rate:.3g}{_supported(count, rate)}"
        ),
        "calibration": (
            f"{count} good images{groups}, each scored by a bank without it "
            f"({calibration.folds} folds), scores multiplied by "
            f"{calibration.image_scores.bias:.3g} because the final bank is larger"
        ),
        "method": f"{far}{calibration.method}{hint}",
        "gate": describe_gate(calibration.gate),
    }


def supported_rate(count: int) -> float:
    """Return the smallest false-alarm rate that `count` held-out scores show, without a tail."""
    return min(1.0, MIN_BEYOND / (count + 1))


def few_images(calibration: Calibration) -> tuple[str, ...]:
    """Return a warning if the thresholds come from fewer than `FEW_IMAGES` images or groups."""
    count = calibration.groups
    if count >= FEW_IMAGES:
        return ()
    if count == 0:
        unknown = (
            "no held-out scores say how often a good image exceeds the thresholds; check them with "
            "good images of this line"
        )
        return (unknown,)
    what = "images" if count == calibration.images else "groups of images"
    words = (
        f"thresholds from {count} {what}, expected {FEW_IMAGES} or more; a false-alarm rate of "
        f"{calibration.target_fpr:.3g} is a guess, see the interval; add good images"
    )
    return (words,)


def _supported(count: int, rate: float) -> str:
    """The rate that so many images support, if the target is smaller."""
    if not uses_tail(count, rate):
        return ""
    shown = supported_rate(count)
    return (
        f"; {count} images support {shown:.2g}, about 1 in {1 / shown:.2g}, and the target is "
        "extrapolated from them"
    )


def _between(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.6g} (90 % interval: {interval[0]:.6g} to {interval[1]:.6g})"


def _stored(calibration: Calibration, scores: HeldOut, rank: int) -> float:
    """Return the score of a rank, or of the next stored rank above it."""
    return scores.values[bisect.bisect_left(calibration.ranks, rank)]
