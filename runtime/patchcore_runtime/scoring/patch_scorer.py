"""The part of a detector after the network: layers of an image's tiles -> score and map.

The detector uses it with an artifact's bank, and calibration uses it with the banks of its folds.
Thresholds are thus computed by the same code that applies them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.bank.patches import one_patch, upsamplers
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.image.region import Region
from patchcore_runtime.manifest.features import Layout
from patchcore_runtime.manifest.manifest import Scoring
from patchcore_runtime.manifest.tiling import TileGrid, tiling_of
from patchcore_runtime.scoring.gate import GateValues, measure_gate
from patchcore_runtime.scoring.rules import (
    anomaly_map,
    map_matrix,
    modelzoo_score,
    paper_score,
)
from patchcore_runtime.search.exact import Layers, NearestIndex


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchScores:
    """The scores of one image's patches, on the grid (h, w) of the whole input."""

    score: float
    anomaly_map: NDArray[np.float32]  # (H, W)
    distances: NDArray[np.float32]  # (h, w), Euclidean; 0 outside the region
    rows: NDArray[np.int64]  # (h, w), nearest rows of the bank
    gate: GateValues  # of the learned region


@dataclass(frozen=True, kw_only=True, eq=False)
class _Peak:
    """The patch with the largest distance so far, p* in eq. 6."""

    distance: float  # s*; -1 until a patch that counts is found
    row: int  # m*
    patch: tuple[NDArray[np.float32], ...]  # (C,) for each layer


_NOWHERE = _Peak(distance=-1.0, row=0, patch=())


class PatchScorer:
    """A bank, its index, the scoring rule and the region; safe to share between threads.

    Args:
        bank: The rows.
        index: A search over these rows.
        layout: The layers of one tile.
        scoring: The scoring rule.
        grid: The tiles of an input; None: the input is one tile.
        region: The part of the input that counts; None: all of it.
        learned: The part that was learned, which contains `region`; the gate looks at all of it.
    """

    def __init__(  # noqa: PLR0913 - independent keywords
        self,
        bank: MemoryBank,
        index: NearestIndex,
        layout: Layout,
        scoring: Scoring,
        *,
        grid: TileGrid | None = None,
        region: Region | None = None,
        learned: Region | None = None,
    ) -> None:
        self._bank = bank
        self._index = index
        self._scoring = scoring
        self._ups = upsamplers(layout)
        self._grid = grid or _one_tile(layout)
        (height, width), side = self._grid.cells, layout.patch_px
        self._map_rows = map_matrix(side * height, height, scoring)
        self._map_columns = map_matrix(side * width, width, scoring)
        self._region = region
        self._learned = None if learned is None else learned.patches
        if region is not None:
            self._map_weights = self._blurred(region.patches.astype(np.float32))

    def score(self, layers: Layers) -> PatchScores:
        """Score the features of all tiles of one image: (T, C, h/s, w/s) for each layer.

        Raises:
            ArtifactError: as `score_tiles`.
        """
        return self.score_tiles(_tiles_of(layers))

    def score_tiles(self, tiles: Iterable[Layers]) -> PatchScores:
        """Score one image, with only one of its T tiles in memory at a time.

        Args:
            tiles: The layers of each tile, in the order of the grid.

        Raises:
            ArtifactError: the index returned non-finite distances, or rows that do not exist.
        """
        blend, peak = self._grid.blend(), _NOWHERE
        for tile, layers in enumerate(tiles):
            distances, rows = (batch[0] for batch in self._index.nearest(layers))
            _check_nearest(distances, rows, self._bank.rows)
            blend.add(tile, distances, rows)
            peak = self._higher(peak, tile, layers, (distances, rows))
        distances, rows = blend.whole()
        gate = measure_gate(distances, rows, self._learned)
        if self._region is not None:
            distances = np.where(self._region.patches, distances, np.float32(0))
        anomaly_map = self.map_of(distances)
        return PatchScores(
            score=self._image_score(peak, anomaly_map),
            anomaly_map=anomaly_map,
            distances=distances,
            rows=rows,
            gate=gate,
        )

    def tile_distances(self, layers: Layers) -> NDArray[np.float32]:
        """Compute the distance of every patch of every tile, (T, h, w); 0 outside the region.

        Overlapping tiles have their own views of a patch; `PatchScores.distances` blends them.
        """
        views = _tiles_of(layers)
        distances = np.concatenate([self._index.nearest(view)[0] for view in views])
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
            patch=one_patch([layer[0] for layer in layers], self._ups, y, x),
        )

    def levels(self, distances: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return distances as the rule counts them: squared, or as they are."""
        # The original implementations use faiss's squared distances without the root.
        return distances * distances if self._scoring.distance == "squared" else distances

    def map_of(self, distances: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the map (H, W) from distances (h, w), which are 0 outside the region."""
        blurred = self._blurred(self.levels(distances))
        if self._region is None:
            return blurred
        # The map is a mean over only the patches that count, so it neither takes values from
        # outside nor falls off towards the region's edge.
        inside = self._region.pixels
        return np.divide(blurred, self._map_weights, out=np.zeros_like(blurred), where=inside)

    def _blurred(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        return anomaly_map(levels, self._map_rows, self._map_columns)

    def _image_score(self, peak: _Peak, anomaly_map: NDArray[np.float32]) -> float:
        kind = self._scoring.image_score
        if kind == "map":
            return float(anomaly_map.max())
        if kind == "max":
            squared = self._scoring.distance == "squared"
            return peak.distance * peak.distance if squared else peak.distance
        if kind == "paper":
            neighbours = self._bank.neighbours[peak.row]  # N_b(m*)
            squares = self._bank.squared_distances(peak.patch, neighbours)
            return paper_score(peak.distance, np.sqrt(squares))
        squares = self._bank.squared_distances(peak.patch, slice(None))
        return modelzoo_score(np.sort(squares)[: self._bank.neighbours.shape[1]])


def _tiles_of(layers: Layers) -> Iterator[Layers]:
    """Yield the layers of each tile, (1, C, h/s, w/s)."""
    return zip(*(layer[:, None] for layer in layers), strict=True)


def _one_tile(layout: Layout) -> TileGrid:
    height, width = layout.tile_px
    tiling = tiling_of(height, width, height, width, 0)
    return TileGrid(tiling, height, width, patch_px=layout.patch_px)


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
