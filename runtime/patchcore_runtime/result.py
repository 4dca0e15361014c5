"""The result of one image: scores, verdict, and the anomaly map on the photograph.

scores + placement -> verdict, peak, map in photograph geometry, regions.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime.image.placement import Placement
from patchcore_runtime.image.statistics import Measured

if TYPE_CHECKING:
    from patchcore_runtime.explain.regions import AnomalyRegion


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """The result of one image. A larger score is stranger; scores are never clamped."""

    score: float
    p_value: float  # share of good images at least as strange, from held-out scores
    threshold: float  # threshold of `score`
    pixel_threshold: float  # threshold of `anomaly_map`
    anomaly_map: NDArray[np.float32]  # (H, W), input geometry
    patch_distances: NDArray[np.float32]  # (h, w), Euclidean; 0 outside the region
    nearest_rows: NDArray[np.int64]  # (h, w), rows of the memory bank
    placement: Placement
    measured: Measured | None = None  # statistics of the whole image, only with measure=True

    @property
    def is_anomalous(self) -> bool:
        """Return whether the score lies above its threshold."""
        return self.score > self.threshold

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
