"""The part of a detector after the network: layer2, layer3 of an image's tiles -> score and map.

The detector uses it with an artifact's bank, and calibration uses it with the banks of its folds.
Thresholds are thus computed by the same code that applies them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.bank.patches import layer3_upsampling
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.image.region import Region
from patchcore_runtime.manifest.manifest import Features, Scoring
from patchcore_runtime.manifest.tiling import CELL_PX, TileGrid, tiling_of
from patchcore_runtime.scoring.rules import (
    anomaly_map,
    map_matrix,
    modelzoo_score,
    paper_score,
)
from patchcore_runtime.search.exact import NearestIndex

Layers = Sequence[NDArray[np.float32]]  # layer2 (1, C2, h, w), layer3 (1, C3, h/2, w/2) of a tile


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchScores:
    """The scores of one image's patches, on the grid (h, w) of the whole input."""

    score: float
    anomaly_map: NDArray[np.float32]  # (H, W)
    distances: NDArray[np.float32]  # (h, w), Euclidean; 0 outside the region
    rows: NDArray[np.int64]  # (h, w), nearest rows of the bank


@dataclass(frozen=True, kw_only=True, eq=False)
class _Peak:
    """The patch with the largest distance so far, p* in eq. 6."""

    distance: float  # s*; -1 until a patch that counts is found
    row: int  # m*
    layer2: NDArray[np.float32]  # (C2,)
    layer3: NDArray[np.float32]  # (C3,)


_EMPTY = np.empty(0, np.float32)
_NOWHERE = _Peak(distance=-1.0, row=0, layer2=_EMPTY, layer3=_EMPTY)


class PatchScorer:
    """A bank, its index, the scoring rule and the region; safe to share between threads.

    Args:
        bank: The rows.
        index: A search over these rows.
        features: The layers of one tile.
        scoring: The scoring rule.
        grid: The tiles of an input; None: the input is one tile.
        region: The part of the input that counts; None: all of it.
    """

    def __init__(
        self,
        bank: MemoryBank,
        index: NearestIndex,
        features: Features,
        scoring: Scoring,
        *,
        grid: TileGrid | None = None,
        region: Region | None = None,
    ) -> None:
        self._bank = bank
        self._index = index
        self._kind = scoring.image_score
        self._up_rows, self._up_columns = layer3_upsampling(features)
        self._grid = grid or _one_tile(features)
        height, width = self._grid.cells
        self._map_rows = map_matrix(CELL_PX * height, height, scoring.sigma_px)
        self._map_columns = map_matrix(CELL_PX * width, width, scoring.sigma_px)
        self._region = region
        if region is not None:
            self._map_weights = self._blurred(region.patches.astype(np.float32))

    def score(self, layer2: NDArray[np.float32], layer3: NDArray[np.float32]) -> PatchScores:
        """Score the features of all tiles of one image: (T, C2, h, w) and (T, C3, h/2, w/2).

        Raises:
            ArtifactError: as `score_tiles`.
        """
        return self.score_tiles(zip(layer2[:, None], layer3[:, None], strict=True))

    def score_tiles(self, tiles: Iterable[Layers]) -> PatchScores:
        """Score one image, with only one of its T tiles in memory at a time.

        Args:
            tiles: The layers of each tile, in the order of the grid.

        Raises:
            ArtifactError: the index returned non-finite distances, or rows that do not exist.
        """
        blend, peak = self._grid.blend(), _NOWHERE
        for tile, (layer2, layer3) in enumerate(tiles):
            distances, rows = (batch[0] for batch in self._index.nearest(layer2, layer3))
            _check_nearest(distances, rows, self._bank.rows)
            blend.add(tile, distances, rows)
            peak = self._higher(peak, tile, (layer2[0], layer3[0]), (distances, rows))
        distances, rows = blend.whole()
        if self._region is not None:
            distances = np.where(self._region.patches, distances, np.float32(0))
        # The MindSpore Models evaluation uses faiss's squared distances without the root.
        levels = distances * distances if self._kind == "modelzoo" else distances
        return PatchScores(
            score=self._image_score(peak),
            anomaly_map=self._anomaly_map(levels),
            distances=distances,
            rows=rows,
        )

    def tile_distances(
        self, layer2: NDArray[np.float32], layer3: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Compute the distance of every patch of every tile, (T, h, w); 0 outside the region.

        Overlapping tiles have their own views of a patch; `PatchScores.distances` blends them.
        """
        views = zip(layer2[:, None], layer3[:, None], strict=True)
        distances = np.concatenate([self._index.nearest(*view)[0] for view in views])
        if self._region is None:
            return distances
        return np.where(self._grid.pieces(self._region.patches), distances, np.float32(0))

    def _higher(
        self,
        peak: _Peak,
        tile: int,
        layers: Layers,
        found: tuple[NDArray[np.float32], NDArray[np.int64]],
    ) -> _Peak:
        """Return the peak so far, or the first highest patch owned by this tile if it is higher.

        At the edge of a tile the network sees only a part of a patch's surroundings, so another
        tile owns that patch.
        """
        distances, rows = found
        counts = self._grid.owned(tile)
        if self._region is not None:
            counts = counts & self._grid.piece(self._region.patches, tile)
        distances = np.where(counts, distances, np.float32(-1))
        y, x = divmod(int(distances.argmax()), distances.shape[1])
        if distances[y, x] <= peak.distance:
            return peak
        return _Peak(
            distance=float(distances[y, x]),
            row=int(rows[y, x]),
            layer2=layers[0][:, y, x],
            layer3=(layers[1] @ self._up_columns[x]) @ self._up_rows[y],
        )

    def _anomaly_map(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the map (H, W) from levels (h, w), which are 0 outside the region."""
        blurred = self._blurred(levels)
        if self._region is None:
            return blurred
        # The map is a mean over only the patches that count, so it neither takes values from
        # outside nor falls off towards the region's edge.
        inside = self._region.pixels
        return np.divide(blurred, self._map_weights, out=np.zeros_like(blurred), where=inside)

    def _blurred(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        return anomaly_map(levels, self._map_rows, self._map_columns)

    def _image_score(self, peak: _Peak) -> float:
        if self._kind == "max":
            return peak.distance
        if self._kind == "paper":
            neighbours = self._bank.neighbours[peak.row]  # N_b(m*)
            squares = self._bank.squared_distances(peak.layer2, peak.layer3, neighbours)
            return paper_score(peak.distance, np.sqrt(squares))
        squares = self._bank.squared_distances(peak.layer2, peak.layer3, slice(None))
        return modelzoo_score(np.sort(squares)[: self._bank.neighbours.shape[1]])


def _one_tile(features: Features) -> TileGrid:
    height, width = CELL_PX * features.layer2.height, CELL_PX * features.layer2.width
    return TileGrid(tiling_of(height, width, height, width, 0), height, width)


def _check_nearest(distances: NDArray[np.float32], rows: NDArray[np.int64], bank_rows: int) -> None:
    """Refuse non-finite distances and unknown rows: a NaN score would pass as good."""
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
