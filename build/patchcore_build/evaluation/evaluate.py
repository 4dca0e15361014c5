"""An artifact and a test set -> metrics, scored through the runtime.

The evaluation measures exactly what ships. Pixel metrics are computed at input resolution, on the
part of the photograph that the input shows, or at original resolution, on the whole photograph.
Pixels outside of the artifact's region of interest never count.
"""

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.data.dataset import Dataset, TestImage, open_dataset, read_mask
from patchcore_build.errors import DatasetError, SettingError
from patchcore_build.evaluation.aupro import PixelScores
from patchcore_build.evaluation.figures import Evaluation, Resolution, ScoredImage, summarize
from patchcore_build.progress import Progress, silent
from patchcore_runtime.detector import Detector
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.image.decode import image_size
from patchcore_runtime.image.region import Region
from patchcore_runtime.result import Result

__all__ = ["Evaluation", "Resolution", "ScoredImage", "Visitor", "evaluate"]

Visitor = Callable[[TestImage, Result, NDArray[np.bool_] | None], None]


def evaluate(  # noqa: PLR0913 - independent keywords
    detector: Detector,
    dataset: Path | Dataset,
    category: str,
    *,
    resolution: Resolution = "input",
    other_category: bool = False,
    progress: Progress = silent,
    visit: Visitor | None = None,
) -> Evaluation:
    """Score every test image and compare the results with the ground truth.

    If the mask of a defect is missing, empty, of another size or shared with another image, the
    image counts for the image metrics alone, and `problems` names it. `problems` also names an
    image whose input does not show its defect; its pixels count.

    Args:
        detector: The loaded artifact.
        dataset: A data set, or its folder in any known layout.
        category: Name of the category.
        resolution: `original` counts the photograph's pixels; those outside of a crop have the
            map value 0, so that a hidden defect counts as missed.
        other_category: Evaluate an artifact of another category of the data set, too.
        progress: Called with the number of images that are done.
        visit: Called with each image, its result and its mask in input geometry (None if it is
            not usable).

    Raises:
        DatasetError: the data set has no such category, or no test images of it.
        SettingError: the artifact was trained on another category of this data set, and
            `other_category` is off.
        ImageError: a test image is unreadable.
        ArtifactError: a score is not finite.
    """
    opened = open_dataset(dataset) if isinstance(dataset, Path) else dataset
    _require_own_category(detector, opened, category, other_category=other_category)
    listed = opened.test_images(category)
    pixels = _Pixels(
        scores=PixelScores(_pixel_count(detector, listed, resolution)),
        masks=Counter(image.mask for image in listed if image.mask is not None),
        resolution=resolution,
        region=detector.region,
        problems=list(_twins(listed)),
    )
    scored: list[ScoredImage] = []
    seconds = {"scoring": 0.0, "metrics": 0.0}
    for done, image in enumerate(listed, start=1):
        start = time.perf_counter()
        result = detector.predict(image.path)
        _require_finite(image, result)
        predicted = time.perf_counter()
        mask = pixels.add(image, result)
        scored.append(_scored(image, result))
        pixels.problems.extend(_stopped(image, result))
        seconds["scoring"] += predicted - start
        seconds["metrics"] += time.perf_counter() - predicted
        if visit is not None:
            visit(image, result, mask)
        progress(done, len(listed))
    start = time.perf_counter()
    calibration = detector.manifest.calibration
    measured = pixels.scores.measure(calibration.pixel_threshold)
    found = summarize(category, scored, measured, pixels.problems, calibration)
    seconds["metrics"] += time.perf_counter() - start
    share = 1.0 if detector.region is None else detector.region.share
    return dataclasses.replace(found, resolution=resolution, region_share=share, seconds=seconds)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Pixels:
    """Map values of all images, and warnings about their masks."""

    scores: PixelScores
    masks: Counter[Path]  # how many images use each mask
    resolution: Resolution
    region: Region | None
    problems: list[str]

    def add(self, image: TestImage, result: Result) -> NDArray[np.bool_] | None:
        """Add one image's map, and return its mask in input geometry; None if it is not usable."""
        try:
            mask = _read_own_mask(image, result, self.masks)
            self.scores.add(*_compared(image, result, mask, self.resolution, self.region))
        except DatasetError as error:
            self.problems.append(str(error))
            return None
        if image.is_anomalous and not _seen(mask, self.region).any():
            self.problems.extend(_hidden(image, result, mask, self.resolution))
        return mask


def _require_own_category(
    detector: Detector, dataset: Dataset, category: str, *, other_category: bool
) -> None:
    trained = detector.manifest.training.category
    if category == trained or other_category or trained not in dataset.categories():
        return
    raise SettingError(
        f"--category {category}: expected {trained}, on which the artifact was trained; "
        "--other-category evaluates it on another one"
    )


def _twins(listed: Sequence[TestImage]) -> Iterator[str]:
    """One warning for each image stem that occurs with several suffixes."""
    names: dict[Path, list[TestImage]] = {}
    for image in listed:
        names.setdefault(image.path.with_suffix(""), []).append(image)
    for name, images in names.items():
        if len(images) > 1:
            files = ", ".join(image.path.name for image in images)
            yield f"{name}: {len(images)} images of one name ({files}), each counts; keep one"


def _pixel_count(detector: Detector, listed: Sequence[TestImage], resolution: Resolution) -> int:
    size = detector.manifest.preprocess
    if resolution == "input":
        return len(listed) * size.height * size.width
    return sum(math.prod(image_size(image.path)) for image in listed)


def _require_finite(image: TestImage, result: Result) -> None:
    if not (math.isfinite(result.score) and np.isfinite(result.anomaly_map).all()):
        raise ArtifactError(
            f"{image.path}: expected a finite score and map, got {result.score} and values up to "
            f"{result.anomaly_map.max()}; the artifact's network overflows, build it again"
        )


def _read_own_mask(image: TestImage, result: Result, masks: Counter[Path]) -> NDArray[np.bool_]:
    """The mask in input geometry.

    Raises:
        DatasetError: it is not usable, or several images share it.
    """
    if image.mask is not None and masks[image.mask] > 1:
        raise DatasetError(
            f"{image.path}: expected a mask of its own, got {image.mask.name}, which "
            f"{masks[image.mask]} images share; rename or remove one of them"
        )
    return read_mask(image, result.placement, result.anomaly_map.shape)


def _compared(
    image: TestImage,
    result: Result,
    mask: NDArray[np.bool_],
    resolution: Resolution,
    region: Region | None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Map, mask and the pixels that count (None: all), at the resolution of the pixel metrics."""
    if resolution == "input":
        return result.anomaly_map, mask, None if region is None else region.pixels
    place = result.placement
    shape = (place.photo_height, place.photo_width)
    whole = dataclasses.replace(
        place, resized_height=shape[0], resized_width=shape[1], top=0, left=0
    )
    photo = np.broadcast_to(np.uint8(0), (*shape, 3))  # only its size matters
    inside = None if region is None else region.on_photograph(place)
    return result.map_on(photo), read_mask(image, whole, shape), inside


def _seen(mask: NDArray[np.bool_], region: Region | None) -> NDArray[np.bool_]:
    """The part of a mask that lies inside of the region of interest."""
    return mask if region is None else mask & region.pixels


def _hidden(
    image: TestImage, result: Result, mask: NDArray[np.bool_], resolution: Resolution
) -> list[str]:
    """A warning about a defect that no counted pixel shows, if this changes the figures."""
    if mask.any():
        return [f"{image.mask}: the whole defect lies outside of the region of interest"]
    place = result.placement
    if (place.resized_height, place.resized_width) != result.anomaly_map.shape:
        return [f"{image.mask}: the crop hides the whole defect"]
    if resolution == "original":  # the photograph's own pixels are counted
        return []
    return [f"{image.mask}: the defect is too small to be marked at input resolution"]


def _scored(image: TestImage, result: Result) -> ScoredImage:
    return ScoredImage(
        name=image.name,
        defect=image.defect,
        is_anomalous=image.is_anomalous,
        score=result.score,
        map_maximum=float(result.anomaly_map.max()),
        is_flagged=result.score > result.threshold,
    )


def _stopped(image: TestImage, result: Result) -> list[str]:
    """A note about a good image that the gate stops: figures count scores alone."""
    if image.is_anomalous or not result.strangeness:
        return []
    return [f"{image.name}: this good image is not_this_part ({result.strangeness[0]})"]
