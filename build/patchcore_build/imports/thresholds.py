"""Thresholds of an original, or of a user -> the manifest's `calibration` without held-out scores.

anomalib's post-processor maps a score s to (s - threshold)/(max - min) + 1/2, clipped to [0, 1],
and calls it anomalous above 1 - sensitivity. Solved for s, that is a threshold in the unit of the
score; its map is likewise between 0 and 1 for the two ends of a heat map.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from patchcore_build.calibration.held_out import HeldOutScores, calibrate
from patchcore_build.config import make_config
from patchcore_build.errors import ModelError, SettingError, require
from patchcore_build.imports.original import Thresholds
from patchcore_runtime.errors import ThresholdError
from patchcore_runtime.manifest.calibration import Calibration, HeatmapRange, thresholds_alone
from patchcore_runtime.scoring.gate import GateValues

_SMALLEST_WIDTH = 1e-6  # of a heat map's scale, relative to its threshold


@dataclass(frozen=True, kw_only=True)
class PostProcessor:
    """Settings of anomalib's post-processor; `values` are its six numbers, NaN if unset."""

    values: Mapping[str, float]
    normalizes: bool = True
    decides: bool = True
    matches: bool = True  # takes the threshold of images for pixels, and the other way round
    image_sensitivity: float = 0.5
    pixel_sensitivity: float = 0.5


def carried(source: str, post: PostProcessor) -> Thresholds | None:
    """The thresholds of an anomalib model in units of its scores; None if it has none.

    Raises:
        ModelError: its sensitivity makes everything normal, or the threshold is not above 0.
    """
    own = {name: post.values[f"_{name}_threshold"] for name in ("image", "pixel")}
    if post.matches:
        own = {
            "image": _first(own["image"], own["pixel"]),
            "pixel": _first(own["pixel"], own["image"]),
        }
    found = {}
    for name in ("image", "pixel"):
        low, high = post.values[f"{name}_min"], post.values[f"{name}_max"]
        middle = _first(own[name], (low + high) / 2)
        if not (post.decides and post.normalizes and math.isfinite(middle + low + high)):
            return None
        sensitivity = getattr(post, f"{name}_sensitivity")
        require(
            0 < sensitivity <= 1,
            f"{source}: {name}_sensitivity",
            "above 0, up to 1",
            sensitivity,
            error=ModelError,
        )
        width = max(high - low, _SMALLEST_WIDTH * abs(middle))
        found[name] = (middle + (0.5 - sensitivity) * (high - low), middle, width)
    image, (pixel, middle, width) = found["image"][0], found["pixel"]
    require(image > 0, f"{source}: image threshold", "above 0", f"{image:.4g}", error=ModelError)
    stretched = math.isnan(post.values["_pixel_threshold"])
    taken = "; the pixel threshold is the image threshold, as in anomalib" if stretched else ""
    return Thresholds(
        image=image,
        pixel=pixel,
        low=min(middle - width / 2, _below(pixel)),
        high=max(middle + width / 2, _above(pixel)),
        method=f"anomalib's F1-adaptive threshold, taken over from its file{taken}",
    )


def given(image: float | None, pixel: float | None) -> Thresholds | None:
    """The thresholds that a user gives; None if there are none.

    Raises:
        SettingError: one is missing, or not above 0.
    """
    if image is None and pixel is None:
        return None
    if image is None or pixel is None:
        raise SettingError("--threshold and --pixel-threshold: expected both or none, got one")
    for name, value in (("--threshold", image), ("--pixel-threshold", pixel)):
        require(0 < value < math.inf, name, "a number above 0", value)
    return Thresholds(
        image=image, pixel=pixel, low=0.0, high=2 * pixel, method="given at the import"
    )


def estimated(scores: NDArray[np.float64], gate: Sequence[GateValues], rate: float) -> Calibration:
    """Thresholds and p-values from good images that the original has not learned.

    Args:
        scores: Score, largest map value and quiet level of n images, (n, 3).
        gate: Their figures for the gate.
        rate: Target false-alarm rate.

    Raises:
        ThresholdError: so few images cannot support this rate.
    """
    if len(scores) < 2:
        raise ThresholdError(
            f"--target-fpr: expected at least two different images, got {len(scores)}; add good "
            "images, or give --threshold and --pixel-threshold"
        )
    nothing = np.zeros(len(scores))  # there are no leaner banks, and so no correction
    held_out = HeldOutScores(
        image_scores=scores[:, 0],
        map_maxima=scores[:, 1],
        quiet_levels=scores[:, 2],
        lean_image_scores=nothing,
        lean_map_maxima=nothing,
        folds=1,
        groups=len(scores),
        share=1.0,
        lean_share=1.0,
        gate=tuple(gate),
    )
    found = calibrate(held_out, make_config("paper", target_fpr=rate))
    return replace(found, method=f"{found.method}; good images given at the import")


def calibration_of(found: Thresholds) -> Calibration:
    """The manifest's calibration: thresholds alone, and the rest said to be unknown."""
    return thresholds_alone(
        image=found.image,
        pixel=found.pixel,
        heatmap=HeatmapRange(low=found.low, high=found.high),
        method=found.method,
    )


def _first(value: float, other: float) -> float:
    return other if math.isnan(value) else value


def _below(value: float) -> float:
    return value - _SMALLEST_WIDTH * max(1.0, abs(value))


def _above(value: float) -> float:
    return value + _SMALLEST_WIDTH * max(1.0, abs(value))
