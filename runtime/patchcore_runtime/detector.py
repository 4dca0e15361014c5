"""Photograph -> score, verdict and anomaly map, with everything an artifact says.

preprocess -> features.onnx -> exact search -> image score and map. PatchCore, Roth et al. 2021.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime.artifact import FEATURES_ONNX, INDEX_ONNX, Artifact
from patchcore_runtime.heatmap import HeatmapScale
from patchcore_runtime.index import ExactIndex
from patchcore_runtime.memory_bank import MemoryBank
from patchcore_runtime.manifest import Manifest
from patchcore_runtime.preprocess import ImageSource, Placement, preprocess
from patchcore_runtime.scoring import (
    anomaly_map,
    map_matrix,
    modelzoo_score,
    paper_score,
    upsampling_matrix,
)
from patchcore_runtime.session import CPU, open_session


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a detector says of one picture. Larger is stranger; scores are never clamped."""

    score: float
    threshold: float  # of `score`
    pixel_threshold: float  # of `anomaly_map`
    anomaly_map: NDArray[np.float32]  # (H, W), input geometry
    patch_distances: NDArray[np.float32]  # (h, w), Euclidean
    nearest_rows: NDArray[np.int64]  # (h, w), rows of the memory bank
    placement: Placement

    @property
    def is_anomalous(self) -> bool:
        """Whether the score lies above its threshold."""
        return self.score > self.threshold

    @property
    def peak(self) -> tuple[int, int]:
        """(y, x) of the map's maximum, in pixels of the photograph as shown."""
        row, column = divmod(int(self.anomaly_map.argmax()), self.anomaly_map.shape[1])
        place = self.placement
        y = (place.top + row + 0.5) * place.photo_height / place.resized_height
        x = (place.left + column + 0.5) * place.photo_width / place.resized_width
        return int(y), int(x)

    def map_on(self, image: Image.Image | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Lay the map on the photograph it was made of.

        Args:
            image: The photograph, oriented as shown, only its size is used.

        Returns:
            float32 (H', W') in map units; 0 where a crop kept the detector from looking.

        Raises:
            ValueError: the picture has another size than the one that was scored.
        """
        place = self.placement
        size = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
        if size != (place.photo_width, place.photo_height):
            raise ValueError(
                f"image: expected {place.photo_width} x {place.photo_height} px as scored, "
                f"got {size[0]} x {size[1]}"
            )
        resized = np.zeros((place.resized_height, place.resized_width), np.float32)
        height, width = self.anomaly_map.shape
        resized[place.top : place.top + height, place.left : place.left + width] = self.anomaly_map
        laid = Image.fromarray(resized).resize(size, Image.Resampling.BILINEAR)
        return np.asarray(laid)


class Detector:
    """An artifact, loaded and ready; safe to share between threads."""

    def __init__(
        self, artifact: Artifact, *, threads: int | None = None, providers: Sequence[str] = (CPU,)
    ) -> None:
        self.artifact = artifact
        self._bank: MemoryBank = artifact.memory_bank
        self._features = open_session(
            artifact.path(FEATURES_ONNX), threads=threads, providers=providers
        )
        self._index = ExactIndex(artifact.path(INDEX_ONNX), threads=threads, providers=providers)
        manifest = artifact.manifest
        layer2, layer3 = manifest.features.layer2, manifest.features.layer3
        sigma_px = manifest.scoring.sigma_px
        self._rows_matrix = map_matrix(manifest.preprocess.height, layer2.height, sigma_px)
        self._columns_matrix = map_matrix(manifest.preprocess.width, layer2.width, sigma_px)
        mode = manifest.features.layer3_upsampling
        self._rows_up = upsampling_matrix(layer2.height, layer3.height, mode)
        self._columns_up = upsampling_matrix(layer2.width, layer3.width, mode)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[str] = (CPU,),
        verify: bool = True,
    ) -> "Detector":
        """Open an artifact folder.

        Args:
            folder: The artifact.
            threads: Threads of one operator; `None` takes the cores this process may use.
            providers: onnxruntime execution providers in order of preference.
            verify: Check the files against SHA256SUMS first.

        Raises:
            ArtifactError: a file is missing, altered, or of an unknown version.
            ProviderError: a provider is not to be had here.
        """
        return cls(Artifact.open(folder, verify=verify), threads=threads, providers=providers)

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self.artifact.manifest

    @property
    def heatmap_scale(self) -> HeatmapScale:
        """The artifact's one colour scale, so that good parts do not glow."""
        calibration = self.manifest.calibration
        return HeatmapScale(
            low=calibration.heatmap.low,
            threshold=calibration.pixel_threshold,
            high=calibration.heatmap.high,
        )

    def predict(self, image: ImageSource) -> Result:
        """Score one picture.

        Args:
            image: Path, PIL image or uint8 (H', W', 3) RGB.

        Raises:
            ImageError: the picture cannot be read or has a refused size.
        """
        return self.predict_input(*preprocess(image, self.manifest.preprocess))

    def predict_batch(self, images: Iterable[ImageSource]) -> list[Result]:
        """Score pictures; exactly what `predict` gives for each, in order.

        Pictures go through the network one at a time: on a CPU a batch is not faster (README,
        Results), and floating-point sums then cannot depend on a picture's neighbours.
        """
        return [self.predict(image) for image in images]

    def predict_input(self, pixels: NDArray[np.uint8], placement: Placement) -> Result:
        """Score a preprocessed input, uint8 (H, W, 3); the part of `predict` after resizing."""
        layer2, layer3 = self._features.run(["layer2", "layer3"], {"images": pixels[None]})
        distances, rows = self._index.nearest(layer2, layer3)
        calibration = self.manifest.calibration
        return Result(
            score=self._image_score(layer2[0], layer3[0], distances[0], rows[0]),
            threshold=calibration.image_threshold,
            pixel_threshold=calibration.pixel_threshold,
            anomaly_map=anomaly_map(distances[0], self._rows_matrix, self._columns_matrix),
            patch_distances=distances[0],
            nearest_rows=rows[0],
            placement=placement,
        )

    def _image_score(
        self,
        layer2: NDArray[np.float32],
        layer3: NDArray[np.float32],
        distances: NDArray[np.float32],
        rows: NDArray[np.int64],
    ) -> float:
        y, x = divmod(int(distances.argmax()), distances.shape[1])  # p* in eq. 6
        largest = float(distances[y, x])  # s*
        kind = self.manifest.scoring.image_score
        if kind == "max":
            return largest
        patch2 = layer2[:, y, x]
        patch3 = layer3 @ self._columns_up[x] @ self._rows_up[y]
        if kind == "paper":
            neighbours = self._bank.neighbours[int(rows[y, x])]  # N_b(m*)
            squares = self._bank.squared_distances(patch2, patch3, neighbours)
            return paper_score(largest, np.sqrt(squares))
        squares = self._bank.squared_distances(patch2, patch3, slice(None))
        return modelzoo_score(np.sort(squares)[: self.manifest.memory_bank.neighbours])
