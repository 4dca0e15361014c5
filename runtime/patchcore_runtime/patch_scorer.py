"""The part of a detector after the network: layer2, layer3 of one picture -> score and map.

Used by the detector with an artifact's bank, and by calibration with the banks of its folds, so
that thresholds are made by the code that applies them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.index import NearestIndex
from patchcore_runtime.manifest import Features, Scoring
from patchcore_runtime.memory_bank import MemoryBank
from patchcore_runtime.scoring import (
    anomaly_map,
    map_matrix,
    modelzoo_score,
    paper_score,
    upsampling_matrix,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchScores:
    """What the patches of one picture give."""

    score: float
    anomaly_map: NDArray[np.float32]  # (H, W)
    distances: NDArray[np.float32]  # (h, w), Euclidean
    rows: NDArray[np.int64]  # (h, w), nearest rows of the bank


class PatchScorer:
    """A bank, its index and the scoring rule; safe to share between threads."""

    def __init__(
        self, bank: MemoryBank, index: NearestIndex, features: Features, scoring: Scoring
    ) -> None:
        self._bank = bank
        self._index = index
        self._kind = scoring.image_score
        layer2, layer3 = features.layer2, features.layer3
        sigma_px = scoring.sigma_px
        self._map_rows = map_matrix(8 * layer2.height, layer2.height, sigma_px)
        self._map_columns = map_matrix(8 * layer2.width, layer2.width, sigma_px)
        mode = features.layer3_upsampling
        self._up_rows = upsampling_matrix(layer2.height, layer3.height, mode)
        self._up_columns = upsampling_matrix(layer2.width, layer3.width, mode)

    def score(self, layer2: NDArray[np.float32], layer3: NDArray[np.float32]) -> PatchScores:
        """Score one picture's features, (1, C2, h, w) and (1, C3, h/2, w/2).

        Raises:
            ArtifactError: the index gave distances that are not finite, or rows of no bank.
        """
        distances, rows = (batch[0] for batch in self._index.nearest(layer2, layer3))
        _check_nearest(distances, rows, self._bank.rows)
        # The MindSpore Models evaluation never takes the root of faiss's squared distances.
        levels = distances * distances if self._kind == "modelzoo" else distances
        return PatchScores(
            score=self._image_score(layer2[0], layer3[0], distances, rows),
            anomaly_map=anomaly_map(levels, self._map_rows, self._map_columns),
            distances=distances,
            rows=rows,
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
        if self._kind == "max":
            return largest
        patch2 = layer2[:, y, x]
        patch3 = (layer3 @ self._up_columns[x]) @ self._up_rows[y]
        if self._kind == "paper":
            neighbours = self._bank.neighbours[int(rows[y, x])]  # N_b(m*)
            squares = self._bank.squared_distances(patch2, patch3, neighbours)
            return paper_score(largest, np.sqrt(squares))
        squares = self._bank.squared_distances(patch2, patch3, slice(None))
        return modelzoo_score(np.sort(squares)[: self._bank.neighbours.shape[1]])


def _check_nearest(distances: NDArray[np.float32], rows: NDArray[np.int64], bank_rows: int) -> None:
    """A score of NaN lies above no threshold: the picture would pass as good."""
    if not np.isfinite(distances).all():
        got, expected = "distances that are not finite", "finite distances"
    elif rows.min() < 0 or rows.max() >= bank_rows:
        got, expected = f"rows {rows.min()} to {rows.max()}", f"rows 0 to {bank_rows - 1}"
    else:
        return
    raise ArtifactError(
        f"search: expected {expected}, got {got}; a graph belongs to another artifact, or this "
        "provider cannot compute it: run `patchcore-runtime check`"
    )
