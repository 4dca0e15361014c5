"""Scored images and pixel metrics -> the figures of one evaluation.

A figure that does not exist is None, and `reasons` says why.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from patchcore_build.evaluation.aupro import PROTOCOLS, PixelMetrics
from patchcore_build.evaluation.metrics import (
    BestF1,
    Confusion,
    Curve,
    Rates,
    confusion,
    rates,
    sweep,
    thin_curve,
)
from patchcore_runtime.manifest.calibration import Calibration

Resolution = Literal["input", "original"]


@dataclass(frozen=True, kw_only=True)
class ScoredImage:
    """One test image and its result."""

    name: str  # below the test set, with forward slashes
    defect: str
    is_anomalous: bool  # the truth
    score: float
    map_maximum: float
    is_flagged: bool  # whether the score is above the artifact's threshold


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of one artifact on one test set; a figure that does not exist is None.

    `rates` are at the artifact's own thresholds, best F1s at thresholds chosen on the test set.
    Pixel figures count the normal pixels of all images, unless they name another protocol.
    """

    category: str
    images: tuple[ScoredImage, ...]
    image_auroc: float | None
    pixel_auroc: float | None
    image_best_f1: BestF1 | None
    image_confusion: Confusion
    pixel_threshold: float
    pixel_share_flagged_good: float | None
    problems: tuple[str, ...]  # warnings: masks that are not usable, images without pixel metrics
    resolution: Resolution = "input"  # of the pixel metrics
    region_share: float = 1.0  # share of the input's pixels that count
    image_average_precision: float | None = None
    image_rates: Rates | None = None
    image_roc: Curve | None = None
    pixel_average_precision: float | None = None
    pixel_best_f1: BestF1 | None = None
    pixel_rates: Rates | None = None  # its F1 is the segmentation F1 at the stored threshold
    aupro_030_all_images: float | None = None  # up to a false-positive rate of 0.30
    aupro_005_all_images: float | None = None
    aupro_030_anomalous_images_only: float | None = None
    aupro_005_anomalous_images_only: float | None = None
    pixel_pro: tuple[Curve, ...] = ()  # one for each protocol
    regions: int = 0  # number of defect regions in the usable masks
    reasons: dict[str, str] = field(default_factory=dict)  # why a figure is None, by its path
    seconds: dict[str, float] = field(default_factory=dict, compare=False)  # scoring, metrics

    def to_dict(self) -> dict[str, Any]:
        """Plain finite numbers and strings, as `evaluate --json` prints them."""
        return asdict(self)


def summarize(
    category: str,
    scored: list[ScoredImage],
    pixels: PixelMetrics,
    problems: list[str],
    calibration: Calibration,
) -> Evaluation:
    """Compute the image metrics and gather all figures.

    Args:
        category: Name of the category.
        scored: Every test image, in order.
        pixels: Pixel metrics at `calibration.pixel_threshold`.
        problems: Warnings so far; a missing class is added.
        calibration: The artifact's thresholds.
    """
    normal = np.array([image.score for image in scored if not image.is_anomalous])
    anomalous = np.array([image.score for image in scored if image.is_anomalous])
    counts = sweep(normal, anomalous) if len(normal) and len(anomalous) else None
    if counts is None:
        missing = "defects" if len(normal) else "good images"
        problems.append(f"{category}/test: no {missing}; image AUROC and F1 do not exist")
    if pixels.auroc is None:
        problems.append(f"{category}/test: no usable masks; pixel AUROC does not exist")
    everywhere, beside = PROTOCOLS
    at_threshold = confusion(normal, anomalous, calibration.image_threshold)
    found = Evaluation(
        category=category,
        images=tuple(scored),
        image_auroc=counts.auroc() if counts else None,
        image_average_precision=counts.average_precision() if counts else None,
        image_best_f1=counts.best_f1() if counts else None,
        image_confusion=at_threshold,
        image_rates=rates(at_threshold),
        image_roc=thin_curve(*counts.roc(), protocol=everywhere) if counts else None,
        pixel_auroc=pixels.auroc,
        pixel_average_precision=pixels.average_precision,
        pixel_best_f1=pixels.best_f1,
        pixel_threshold=calibration.pixel_threshold,
        pixel_rates=pixels.rates,
        pixel_share_flagged_good=_share_above(scored, calibration.pixel_threshold),
        aupro_030_all_images=pixels.aupro.get((everywhere, 0.30)),
        aupro_005_all_images=pixels.aupro.get((everywhere, 0.05)),
        aupro_030_anomalous_images_only=pixels.aupro.get((beside, 0.30)),
        aupro_005_anomalous_images_only=pixels.aupro.get((beside, 0.05)),
        pixel_pro=pixels.pro_curves,
        regions=pixels.regions,
        problems=tuple(problems),
    )
    return dataclasses.replace(found, reasons=_reasons(found))


def _share_above(scored: list[ScoredImage], pixel_threshold: float) -> float | None:
    """The share of good images with any map value above the threshold."""
    good = [image.map_maximum > pixel_threshold for image in scored if not image.is_anomalous]
    return sum(good) / len(good) if good else None


def _reasons(found: Evaluation) -> dict[str, str]:
    """The reason why each missing figure is None, by its path in `Evaluation.to_dict`."""
    good = sum(not image.is_anomalous for image in found.images)
    image = f"no {'defects' if good else 'good images'} in the test set"
    truth = "no usable masks with both normal and defect pixels"
    beside = truth if found.pixel_auroc is None else "no normal pixels beside the defects"
    reasons = {}
    for path in _missing(found.to_dict()):
        if path.startswith("image_"):
            reasons[path] = image
        elif path == "pixel_share_flagged_good":
            reasons[path] = "no good images in the test set"
        else:
            reasons[path] = beside if path.endswith(_slug(PROTOCOLS[1])) else truth
    return reasons


def _missing(figures: dict[str, Any], above: str = "") -> Iterator[str]:
    """Paths of the values that are None, with dots between the levels."""
    for name, value in figures.items():
        if value is None:
            yield above + name
        elif isinstance(value, dict):
            yield from _missing(value, f"{above}{name}.")


def _slug(protocol: str) -> str:
    return protocol.replace(" ", "_")
