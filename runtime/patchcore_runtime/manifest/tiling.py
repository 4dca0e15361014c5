"""Cut an input into overlapping tiles of one size, and blend the results of the tiles.

uint8 (H, W, 3) -> T tiles (tile_height, tile_width, 3); T pieces of the patch grid -> (h, w).
artifacts/FORMAT.md, section Tiles, defines both. Tiles begin at multiples of the features' step, so
that their patch grids are pieces of one grid. An input that is not cut is one tile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.files.strict_json import check


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Size, overlap and number of the tiles; all lengths in pixels of the input."""

    tile_height: int
    tile_width: int
    overlap: int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        for field in ("tile_height", "tile_width"):
            check(1 <= getattr(self, field) <= 2**16, field, "1 to 65536")
        half = min(self.tile_height, self.tile_width) // 2
        check(0 <= self.overlap <= half, "overlap", "0 to half of the tile's shorter side")
        check(self.rows >= 1, "rows", "1 or more")
        check(self.columns >= 1, "columns", "1 or more")


def tiling_of(height: int, width: int, tile_height: int, tile_width: int, overlap: int) -> Tiling:
    """Compute the tiling of an input; a tile is no larger than the input.

    Raises:
        ValueError: `Tiling` does not accept the overlap.
    """
    tile_height, tile_width = min(tile_height, height), min(tile_width, width)
    return Tiling(
        tile_height=tile_height,
        tile_width=tile_width,
        overlap=overlap if (tile_height, tile_width) != (height, width) else 0,
        rows=tiles_along(height, tile_height, overlap),
        columns=tiles_along(width, tile_width, overlap),
    )


def tiles_along(length: int, tile: int, overlap: int) -> int:
    """Compute the number of tiles that cover one side.

    Raises:
        ValueError: tiles that overlap by their whole length never cover a longer side.
    """
    check(length <= tile or overlap < tile, "overlap", f"less than the tile's {tile} px")
    return 1 if length <= tile else -(-(length - overlap) // (tile - overlap))


class TileGrid:
    """The positions of the tiles of one input geometry, and the weight of each tile at each patch.

    Args:
        tiling: The input's tiling.
        height: H of the input.
        width: W of the input.
        patch_px: Side of a patch in pixels, which divides all lengths.
    """

    def __init__(self, tiling: Tiling, height: int, width: int, *, patch_px: int) -> None:
        self.patch_px = patch_px
        self.cells = (height // patch_px, width // patch_px)  # h, w of the whole grid
        self.tile_px = (tiling.tile_height, tiling.tile_width)
        self._tile_cells = (tiling.tile_height // patch_px, tiling.tile_width // patch_px)
        tops = _starts(height, tiling.tile_height, tiling.overlap, tiling.rows)
        lefts = _starts(width, tiling.tile_width, tiling.overlap, tiling.columns)
        self.corners_px = tuple((top, left) for top in tops for left in lefts)
        ramp = max(1, tiling.overlap // patch_px)
        self._weights = np.outer(*(_ramp(cells, ramp) for cells in self._tile_cells))

    @property
    def tiles(self) -> int:
        """Return T, the number of tiles."""
        return len(self.corners_px)

    def cut(self, pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Yield the tiles of an input (H, W, 3), each a view (tile_height, tile_width, 3)."""
        height, width = self.tile_px
        for top, left in self.corners_px:
            yield pixels[top : top + height, left : left + width]

    def piece(self, whole: NDArray[Any], tile: int) -> NDArray[Any]:
        """Return a view of the part of a whole patch grid (h, w) that lies in one tile."""
        (top, left), (height, width) = self.corners_px[tile], self._tile_cells
        top, left = top // self.patch_px, left // self.patch_px
        return whole[top : top + height, left : left + width]

    def pieces(self, whole: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the `piece` of every tile, (T, tile rows, tile columns)."""
        return np.stack([self.piece(whole, tile) for tile in range(self.tiles)])

    def owned(self, tile: int) -> NDArray[np.bool_]:
        """Return the patches on which this tile has the largest weight; ties go to the first."""
        owned: NDArray[np.bool_] = self.piece(self._owners, tile) == tile
        return owned

    @cached_property
    def _owners(self) -> NDArray[np.int64]:
        owners, largest = np.zeros(self.cells, np.int64), np.zeros(self.cells, np.int64)
        for tile in range(self.tiles):
            before = self.piece(largest, tile)
            self.piece(owners, tile)[self._weights > before] = tile
            np.maximum(before, self._weights, out=before)
        return owners

    @cached_property
    def _total_weights(self) -> NDArray[np.int64]:
        total = np.zeros(self.cells, np.int64)
        for tile in range(self.tiles):
            self.piece(total, tile)[:] += self._weights
        return total

    @property
    def weights(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the weights of a tile's patches, and their sums on the whole grid."""
        return self._weights, self._total_weights

    def blend(self) -> "Blend":
        """Return an empty grid to which tiles can be added."""
        return Blend(self, *self.weights)


class Blend:
    """Blend distances of tiles on one grid: a mean with weights that fall towards tile edges."""

    def __init__(
        self, grid: TileGrid, weights: NDArray[np.int64], totals: NDArray[np.int64]
    ) -> None:
        self._grid, self._weights, self._totals = grid, weights, totals
        self._sums = np.zeros(grid.cells)  # float64, so that a single tile is returned to the bit
        self._rows = np.zeros(grid.cells, np.int64)

    def add(self, tile: int, distances: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Add one tile's distances and bank rows, (tile rows, tile columns) each."""
        self._grid.piece(self._sums, tile)[:] += self._weights * distances.astype(np.float64)
        owned = self._grid.owned(tile)
        self._grid.piece(self._rows, tile)[owned] = rows[owned]

    def whole(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return distances and rows (h, w); the tile that owns a patch gives its row."""
        return (self._sums / self._totals).astype(np.float32), self._rows


def _starts(length: int, tile: int, overlap: int, count: int) -> list[int]:
    """Return the starts of the tiles along one side; the last tile is moved inwards."""
    return [min(number * (tile - overlap), length - tile) for number in range(count)]


def _ramp(cells: int, longest: int) -> NDArray[np.int64]:
    """Compute the weights along one side of a tile: 1, 2, … up to `longest`, and down again."""
    places = np.arange(cells)
    return np.minimum(np.minimum(places + 1, cells - places), longest).astype(np.int64)
