"""Test images and results -> small previews that show image, truth and heat.

`Gallery.visit` is handed to `evaluate`; `Gallery.images` joins its previews with the scores.
Only compressed previews are kept: at most 60 kB an image, whatever the size of the photograph.
"""

import dataclasses
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from patchcore_build.data.dataset import TestImage
from patchcore_build.evaluation.evaluate import Evaluation, ScoredImage
from patchcore_runtime.detector import Detector
from patchcore_runtime.explain.heatmap import overlay
from patchcore_runtime.files.names import shown_path
from patchcore_runtime.image.preprocess import read_photograph
from patchcore_runtime.result import Result

PREVIEW_PX = 320  # the long side
MAX_JPEG_BYTES = 20_000  # of one preview; three to an image
_QUALITIES = (88, 75, 60, 45, 30, 15, 5)  # the first that fits is taken
_TRUTH_RGB = (0, 230, 118)
_TRUTH_EDGE_RGB = (0, 40, 20)  # keeps the line visible on bright photographs


@dataclass(frozen=True, kw_only=True)
class Previews:
    """One image three times, as JPEG bytes of equal size."""

    width: int
    height: int
    photo: bytes
    truth: bytes | None  # the photograph with its defect outlined
    no_truth: str  # why nothing is outlined; empty where `truth` exists
    heat: bytes


@dataclass(frozen=True, kw_only=True)
class GalleryImage:
    """A scored test image with its previews."""

    scored: ScoredImage
    threshold: float
    p_value: float
    previews: Previews

    @property
    def is_right(self) -> bool:
        """Whether the verdict is the truth."""
        return self.scored.is_flagged == self.scored.is_anomalous

    @property
    def margin(self) -> float:
        """Distance of the score from the threshold, negative on the wrong side of it."""
        above = self.scored.score - self.threshold
        return above if self.scored.is_anomalous else -above

    @property
    def outcome(self) -> str:
        """The verdict and whether it is right, in words."""
        if self.scored.is_anomalous:
            return "found" if self.scored.is_flagged else "missed"
        return "false alarm" if self.scored.is_flagged else "passed"


class Gallery:
    """Collects previews while `evaluate` runs; give it `visit`.

    Args:
        detector: The artifact under test; its one colour scale is used for every heat map.
    """

    def __init__(self, detector: Detector) -> None:
        self.scale = detector.heatmap_scale
        self._settings = detector.manifest.preprocess
        self._seen: list[tuple[str, float, float, Previews]] = []

    def visit(self, image: TestImage, result: Result, mask: NDArray[np.bool_] | None) -> None:
        """Keep the previews of one image.

        Args:
            image: The test image; it is read once more.
            result: What the detector said of it.
            mask: The truth, (H, W) in input geometry; None if it has no usable one.

        Raises:
            ImageError: the image cannot be read.
        """
        photo = _shrink(read_photograph(image.path, self._settings, notes=[]))
        pixels = np.asarray(photo)
        truth, no_truth = None, _why_no_outline(image, mask)
        if mask is not None and not no_truth:
            # Any share of a preview's pixel counts: shrinking must not lose a thin scratch.
            marked = _lay(result, mask.astype(np.float32), photo) > 0.02
            truth = _to_jpeg(_outline(pixels, marked))
        heat = overlay(pixels, _lay(result, result.anomaly_map, photo), self.scale)
        previews = Previews(
            width=photo.width,
            height=photo.height,
            photo=_to_jpeg(pixels),
            truth=truth,
            no_truth=no_truth,
            heat=_to_jpeg(heat),
        )
        self._seen.append((shown_path(image.path), result.score, result.p_value, previews))

    def images(self, evaluation: Evaluation) -> tuple[GalleryImage, ...]:
        """Join previews and scores, from the most confusing image to the clearest.

        Wrong verdicts come first, the farthest beyond the threshold on top; then right ones, the
        closest to the threshold on top. Equal margins go by name.

        Raises:
            ValueError: the gallery did not visit exactly this evaluation's images.
        """
        scored = evaluation.images
        same = len(scored) == len(self._seen) and all(
            path.endswith(f"/{image.name}") and score == image.score
            for image, (path, score, *_) in zip(scored, self._seen, strict=True)
        )
        if not same:
            raise ValueError(
                f"gallery: expected the {len(scored)} images of this evaluation, got "
                f"{len(self._seen)} of another run; give a new Gallery's visit to evaluate"
            )
        threshold = evaluation.image_confusion.threshold
        joined = (
            GalleryImage(scored=image, threshold=threshold, p_value=p_value, previews=previews)
            for image, (_, _, p_value, previews) in zip(scored, self._seen, strict=True)
        )
        return tuple(
            sorted(joined, key=lambda image: (image.is_right, image.margin, image.scored.name))
        )


def _why_no_outline(image: TestImage, mask: NDArray[np.bool_] | None) -> str:
    """Words to show in the truth's place; empty if a defect can be outlined."""
    if not image.is_anomalous:
        return "no defect"
    if mask is None:
        return "no usable mask"
    return "" if mask.any() else "defect outside the crop"


def _shrink(photo: Image.Image) -> Image.Image:
    """Scale the long side to PREVIEW_PX, so that lines are equally thick on every image."""
    scale = PREVIEW_PX / max(photo.size)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    return photo.resize(size, Image.Resampling.BICUBIC)


def _lay(result: Result, values: NDArray[np.float32], preview: Image.Image) -> NDArray[np.float32]:
    """Values in input geometry, (H, W) -> the preview's, as if it were the photograph."""
    placement = dataclasses.replace(
        result.placement, photo_height=preview.height, photo_width=preview.width
    )
    laid = dataclasses.replace(result, anomaly_map=values, placement=placement)
    return laid.map_on(preview)


def _outline(pixels: NDArray[np.uint8], region: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw a line just outside the region, itself lined on its outside."""
    mask = Image.fromarray(region.astype(np.uint8))
    line = np.asarray(mask.filter(ImageFilter.MaxFilter(5))) > 0
    edge = np.asarray(mask.filter(ImageFilter.MaxFilter(7))) > 0
    drawn: NDArray[np.uint8] = pixels.copy()
    drawn[edge & ~line] = _TRUTH_EDGE_RGB
    drawn[line & ~region] = _TRUTH_RGB
    return drawn


def _to_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Compress within MAX_JPEG_BYTES; colour is kept at full resolution for the thin lines."""
    encoded = b""
    for quality in _QUALITIES:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
        encoded = file.getvalue()
        if len(encoded) <= MAX_JPEG_BYTES:
            break
    return encoded
