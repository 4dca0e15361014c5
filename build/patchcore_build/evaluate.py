"""An artifact and a test set -> metrics, scored through the runtime.

What is measured is what ships.

Pixel metrics are taken at input resolution, on what the input shows of the photograph.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.dataset import TestImage, list_test_images, read_mask
from patchcore_build.errors import DatasetError
from patchcore_build.metrics import BestF1, Confusion, auroc, best_f1, confusion
from patchcore_build.progress import Progress, silent
from patchcore_runtime.detector import Detector, Result


@dataclass(frozen=True, kw_only=True)
class ScoredImage:
    """One test picture and what the detector said of it."""

    name: str  # below the test set, with forward slashes
    defect: str
    is_anomalous: bool  # the truth
    score: float
    map_maximum: float
    is_flagged: bool  # the verdict


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of one artifact on one test set; a metric that does not exist is None."""

    category: str
    images: tuple[ScoredImage, ...]
    image_auroc: float | None
    pixel_auroc: float | None
    image_best_f1: BestF1 | None
    image_confusion: Confusion
    pixel_threshold: float
    pixel_share_flagged_good: float | None
    problems: tuple[str, ...]  # masks that could not be used, pictures without pixel metrics

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, as `evaluate --json` prints them."""
        return asdict(self)


Visitor = Callable[[TestImage, Result, NDArray[np.bool_] | None], None]


def evaluate(
    detector: Detector,
    dataset: Path,
    category: str,
    *,
    progress: Progress = silent,
    visit: Visitor | None = None,
) -> Evaluation:
    """Score every test picture and compare with the truth.

    A defect's picture whose mask is missing, empty or of another size counts for the image
    metrics, is left out of the pixel metrics, and is named in `problems`. So is one whose defect
    lies wholly outside the crop, but its pixels, all normal, are kept.

    Args:
        detector: The artifact, loaded.
        dataset: Folder of a data set in any known layout.
        category: One of its categories.
        progress: Told how many pictures are done.
        visit: Called with each picture, its result and its mask (None: not usable).

    Raises:
        DatasetError: no test pictures.
        ImageError: a test picture is unreadable.
    """
    listed = list_test_images(dataset, category)
    size = detector.manifest.preprocess
    pixels = _PixelScores(len(listed), (size.height, size.width))
    scored, problems = [], []
    for done, image in enumerate(listed, start=1):
        result = detector.predict(image.path)
        mask: NDArray[np.bool_] | None = None
        try:
            mask = read_mask(image, result.placement, (size.height, size.width))
            pixels.add(result.anomaly_map, mask)
            if image.is_anomalous and not mask.any():
                problems.append(f"{image.mask}: the crop hides the whole defect")
        except DatasetError as error:
            problems.append(str(error))
        scored.append(
            ScoredImage(
                name=image.name,
                defect=image.defect,
                is_anomalous=image.is_anomalous,
                score=result.score,
                map_maximum=float(result.anomaly_map.max()),
                is_flagged=result.is_anomalous,
            )
        )
        if visit is not None:
            visit(image, result, mask)
        progress(done, len(listed))
    return _summary(detector, category, scored, pixels, problems)


class _PixelScores:
    """Map values of normal and of defect pixels, in two arrays that fill from the front."""

    def __init__(self, images: int, size: tuple[int, int]) -> None:
        self._values = np.empty((images, *size), np.float32)
        self._masks = np.empty((images, *size), np.bool_)
        self._count = 0

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        self._values[self._count] = anomaly_map
        self._masks[self._count] = mask
        self._count += 1

    def split(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(normal, defect) values."""
        values, masks = self._values[: self._count], self._masks[: self._count]
        return values[~masks], values[masks]


def _summary(
    detector: Detector,
    category: str,
    scored: list[ScoredImage],
    pixels: _PixelScores,
    problems: list[str],
) -> Evaluation:
    calibration = detector.manifest.calibration
    normal = np.array([image.score for image in scored if not image.is_anomalous])
    anomalous = np.array([image.score for image in scored if image.is_anomalous])
    both = len(normal) > 0 and len(anomalous) > 0
    if not both:
        missing = "defects" if len(normal) else "good pictures"
        problems.append(f"{category}/test: no {missing}; image AUROC and F1 do not exist")
    normal_pixels, defect_pixels = pixels.split()
    has_pixels = len(normal_pixels) > 0 and len(defect_pixels) > 0
    if not has_pixels:
        problems.append(f"{category}/test: no usable masks; pixel AUROC does not exist")
    return Evaluation(
        category=category,
        images=tuple(scored),
        image_auroc=auroc(normal, anomalous) if both else None,
        pixel_auroc=auroc(normal_pixels, defect_pixels) if has_pixels else None,
        image_best_f1=best_f1(normal, anomalous) if both else None,
        image_confusion=confusion(normal, anomalous, calibration.image_threshold),
        pixel_threshold=calibration.pixel_threshold,
        pixel_share_flagged_good=_share_above(scored, calibration.pixel_threshold),
        problems=tuple(problems),
    )


def _share_above(scored: list[ScoredImage], pixel_threshold: float) -> float | None:
    """Of the good pictures, the share with any map value over the threshold."""
    good = [image.map_maximum > pixel_threshold for image in scored if not image.is_anomalous]
    return sum(good) / len(good) if good else None
