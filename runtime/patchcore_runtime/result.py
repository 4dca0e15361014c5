"""The result of one image: scores, verdict, and the anomaly map on the photograph.

scores + placement -> verdict, peak, map and mask in photograph geometry, heat map, regions.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime.explain.heatmap import HeatmapScale, colorize, overlay, save_png
from patchcore_runtime.image.placement import Placement
from patchcore_runtime.image.statistics import Measured

if TYPE_CHECKING:
    from patchcore_runtime.explain.regions import AnomalyRegion

Verdict = Literal["good", "anomalous", "not_this_part"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Result:
    """The result of one image. A larger score is stranger; scores are never clamped.

    `verdict` is what to act on: `good`, `anomalous`, or `not_this_part` for an image that does not
    show what was learned, whatever its score; `reasons` says why.

    Attributes:
        score: Image score, in the unit of the artifact's rule; distances are Euclidean.
        p_value: Share of good images that are at least as strange, from held-out scores.
        threshold: Image threshold; a score strictly above it is anomalous.
        pixel_threshold: Threshold of `anomaly_map`, in map units.
        anomaly_map: float32 (H, W), in the geometry of the network's input.
        patch_distances: float32 (h, w), distance of each patch to its nearest bank row; 0 outside
            the region of interest.
        nearest_rows: int64 (h, w), the rows of the memory bank.
        placement: Position of the input on the photograph.
        heatmap_scale: The artifact's one colour scale.
        strangeness: Why the image does not show the learned part, in words; empty if it may.
        measured: Statistics of the whole image, only with `predict(measure=True)`.
    """

    score: float
    p_value: float
    threshold: float
    pixel_threshold: float
    anomaly_map: NDArray[np.float32]
    patch_distances: NDArray[np.float32]
    nearest_rows: NDArray[np.int64]
    placement: Placement
    heatmap_scale: HeatmapScale
    strangeness: tuple[str, ...] = ()
    measured: Measured | None = None

    def __repr__(self) -> str:
        height, width = self.anomaly_map.shape
        return (
            f"Result({self.verdict}, score={self.score:.4g}, threshold={self.threshold:.4g}, "
            f"p_value={self.p_value:.3g}, map {height} x {width})"
        )

    @property
    def is_anomalous(self) -> bool:
        """Return whether the image is not good: its score is above the threshold, or it is odd."""
        return self.verdict != "good"

    @property
    def verdict(self) -> Verdict:
        """Return `good`, `anomalous`, or `not_this_part`."""
        if self.strangeness:
            return "not_this_part"
        return "anomalous" if self.score > self.threshold else "good"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why the image is not good, in words and numbers; empty if it is."""
        if self.score > self.threshold:
            above = f"score {self.score:.4g}, expected at most {self.threshold:.4g}"
            return (*self.strangeness, above)
        return self.strangeness

    @property
    def score_ratio(self) -> float:
        """Return the score divided by its threshold: above 1 is anomalous; it is never clamped."""
        return self.score / self.threshold

    @property
    def peak(self) -> tuple[int, int]:
        """Return (y, x) of the map's maximum, in pixels of the photograph as shown."""
        row, column = divmod(int(self.anomaly_map.argmax()), self.anomaly_map.shape[1])
        place = self.placement
        y = (place.top + row + 0.5) * place.photo_height / place.resized_height
        x = (place.left + column + 0.5) * place.photo_width / place.resized_width
        return int(y), int(x)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Return the pixels of the photograph above the pixel threshold, bool (H', W')."""
        above: NDArray[np.bool_] = self._map_on_photograph() > self.pixel_threshold
        return above

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of a JSON line of `score`, without the image's name."""
        return {
            "score": self.score,
            "threshold": self.threshold,
            "score_ratio": self.score_ratio,
            "p_value": self.p_value,
            "is_anomalous": self.is_anomalous,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "peak": list(self.peak),
        }

    def heatmap(self, image: Image.Image | NDArray[np.uint8] | None = None) -> Image.Image:
        """Draw the map in the artifact's colours.

        Args:
            image: The photograph, oriented as shown, RGB; the map is drawn over it. Without it the
                map alone is drawn, (H, W) of the input.

        Raises:
            ValueError: the image has another size than the scored one, or is not RGB.
        """
        if image is None:
            return Image.fromarray(colorize(self.anomaly_map, self.heatmap_scale))
        photograph = np.asarray(image)
        return Image.fromarray(overlay(photograph, self.map_on(image), self.heatmap_scale))

    def save(self, path: str | Path, image: Image.Image | NDArray[np.uint8] | None = None) -> None:
        """Write `heatmap(image)` as a PNG, whole or not at all; an older file is replaced.

        Raises:
            ValueError: see `heatmap`.
            OSError: the folder is missing or cannot be written.
        """
        save_png(Path(path), np.asarray(self.heatmap(image)))

    def map_on(self, image: Image.Image | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Resize the map to the geometry of its photograph.

        Args:
            image: The photograph, oriented as shown; only its size is used.

        Returns:
            float32 (H', W') in map units; 0 in parts that were cropped off.

        Raises:
            ValueError: the image has another size than the scored one.
        """
        place = self.placement
        size = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
        if size != (place.photo_width, place.photo_height):
            raise ValueError(
                f"image: expected {place.photo_width} x {place.photo_height} px as scored, "
                f"got {size[0]} x {size[1]}"
            )
        return self._map_on_photograph()

    def regions(self) -> "tuple[AnomalyRegion, ...]":
        """Find connected regions of the photograph above the pixel threshold, highest peak first.

        Pixels, boxes and contours are in the geometry of `map_on`, which heat maps show.
        """
        from patchcore_runtime.explain.regions import find_regions

        return find_regions(self._map_on_photograph(), self.pixel_threshold)

    def _map_on_photograph(self) -> NDArray[np.float32]:
        place = self.placement
        size = (place.photo_width, place.photo_height)
        resized = Image.fromarray(place.uncropped(self.anomaly_map))
        laid = resized.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(laid)

    def _repr_png_(self) -> bytes:
        """Return the map as a PNG: notebooks show it."""
        file = io.BytesIO()
        self.heatmap().save(file, "PNG")
        return file.getvalue()
