"""Test pictures and results -> small pictures that show photograph, truth and heat.

`Gallery.visit` is handed to `evaluate`; `Gallery.shots` joins its thumbnails with the scores.
Only compressed thumbnails are kept: at most 60 kB a picture, whatever the photograph's size.
"""

import dataclasses
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from patchcore_build.data.dataset import TestImage
from patchcore_build.evaluation.evaluate import Evaluation, ScoredImage
from patchcore_runtime.detector import Detector, Result
from patchcore_runtime.explain.heatmap import overlay
from patchcore_runtime.image.decode import read_image

THUMBNAIL_PX = 240  # the long side
MAX_JPEG_BYTES = 20_000  # of one thumbnail; three to a picture
_QUALITIES = (88, 75, 60, 45, 30, 15, 5)  # the first that fits is taken
_TRUTH_RGB = (0, 230, 118)
_TRUTH_EDGE_RGB = (0, 40, 20)  # keeps the line visible on bright photographs


@dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """One picture three times, as JPEG bytes of equal size."""

    width: int
    height: int
    photo: bytes
    truth: bytes | None  # the photograph with its defect outlined
    no_truth: str  # why there is nothing to outline; empty where `truth` is there
    heat: bytes


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A scored test picture with its thumbnails."""

    image: ScoredImage
    threshold: float
    thumbnails: Thumbnails

    @property
    def is_right(self) -> bool:
        """Whether the verdict is the truth."""
        return self.image.is_flagged == self.image.is_anomalous

    @property
    def margin(self) -> float:
        """Distance of the score from the threshold, negative on the wrong side of it."""
        above = self.image.score - self.threshold
        return above if self.image.is_anomalous else -above

    @property
    def outcome(self) -> str:
        """The verdict and whether it is right, in words."""
        if self.image.is_anomalous:
            return "found" if self.image.is_flagged else "missed"
        return "false alarm" if self.image.is_flagged else "passed"


class Gallery:
    """Collects thumbnails while `evaluate` runs; give it `visit`.

    Args:
        detector: The artifact under test; its one colour scale is used for every heat map.
    """

    def __init__(self, detector: Detector) -> None:
        self.scale = detector.heatmap_scale
        self._seen: list[tuple[str, float, Thumbnails]] = []

    def visit(self, image: TestImage, result: Result, mask: NDArray[np.bool_] | None) -> None:
        """Keep one picture's thumbnails.

        Args:
            image: The test picture; it is read once more.
            result: What the detector said of it.
            mask: The truth, (H, W) in input geometry; None where there is no usable one.

        Raises:
            ImageError: the picture cannot be read.
        """
        photo = _shrink(read_image(image.path))
        pixels = np.asarray(photo)
        truth, no_truth = None, _why_no_outline(image, mask)
        if mask is not None and not no_truth:
            # Any share of a thumbnail's pixel counts: shrinking must not lose a thin scratch.
            marked = _lay(result, mask.astype(np.float32), photo) > 0.02
            truth = _to_jpeg(_outline(pixels, marked))
        heat = overlay(pixels, _lay(result, result.anomaly_map, photo), self.scale)
        thumbnails = Thumbnails(
            width=photo.width,
            height=photo.height,
            photo=_to_jpeg(pixels),
            truth=truth,
            no_truth=no_truth,
            heat=_to_jpeg(heat),
        )
        self._seen.append((image.path.as_posix(), result.score, thumbnails))

    def shots(self, evaluation: Evaluation) -> tuple[Shot, ...]:
        """Join thumbnails and scores, from the most confusing picture to the clearest.

        Wrong verdicts come first, the farthest beyond the threshold on top; then right ones, the
        closest to the threshold on top. Equal margins go by name.

        Raises:
            ValueError: the gallery did not visit exactly this evaluation's pictures.
        """
        images = evaluation.images
        same = len(images) == len(self._seen) and all(
            path.endswith(f"/{image.name}") and score == image.score
            for image, (path, score, _) in zip(images, self._seen, strict=True)
        )
        if not same:
            raise ValueError(
                f"gallery: expected the {len(images)} pictures of this evaluation, got "
                f"{len(self._seen)} of another run; give a new Gallery's visit to evaluate"
            )
        threshold = evaluation.image_confusion.threshold
        shots = (
            Shot(image=image, threshold=threshold, thumbnails=thumbnails)
            for image, (_, _, thumbnails) in zip(images, self._seen, strict=True)
        )
        return tuple(sorted(shots, key=lambda shot: (shot.is_right, shot.margin, shot.image.name)))


def _why_no_outline(image: TestImage, mask: NDArray[np.bool_] | None) -> str:
    """Words to show in the truth's place; empty where there is something to outline."""
    if not image.is_anomalous:
        return "no defect"
    if mask is None:
        return "no usable mask"
    return "" if mask.any() else "defect outside the crop"


def _shrink(photo: Image.Image) -> Image.Image:
    """Bring the long side to THUMBNAIL_PX, so that lines are equally thick on every picture."""
    scale = THUMBNAIL_PX / max(photo.size)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    return photo.resize(size, Image.Resampling.BICUBIC)


def _lay(
    result: Result, values: NDArray[np.float32], thumbnail: Image.Image
) -> NDArray[np.float32]:
    """Values in input geometry, (H, W) -> the thumbnail's, as if it were the photograph."""
    placement = dataclasses.replace(
        result.placement, photo_height=thumbnail.height, photo_width=thumbnail.width
    )
    laid = dataclasses.replace(result, anomaly_map=values, placement=placement)
    return laid.map_on(thumbnail)


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
