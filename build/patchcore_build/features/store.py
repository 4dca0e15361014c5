"""Images -> patch features in one preallocated store -> projections and memory banks.

uint8 inputs (N, H, W, 3) -> layers (N, h/s, w/s, C) -> patch rows.
Each layer is stored on its own grid, which halves the store. Upsampling to the patch grid is
linear, so it is done after a projection, or for picked rows only.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone.network import Images, Network
from patchcore_build.progress import Progress, silent
from patchcore_build.storage import Storage
from patchcore_runtime.bank.memory_bank import MemoryBank, squared_lengths
from patchcore_runtime.bank.neighbours import nearest_rows
from patchcore_runtime.bank.patches import upsampling_matrix
from patchcore_runtime.image.region import Region
from patchcore_runtime.manifest.features import Upsampling
from patchcore_runtime.manifest.manifest import BankPrecision
from patchcore_runtime.manifest.tiling import TileGrid

BATCH_IMAGES = 8
# Copies of a bank in memory, at most, while its index.mindir is written and loaded again.
_BANK_COPIES = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureStore:
    """Features of N images of T tiles; patch (n, t, y, x) has row ((n·T + t)·h + y)·w + x.

    h and w are the patch grid of one tile; an input without tiling is one tile.
    """

    layers: tuple[NDArray[np.float32], ...]  # (N·T, h/s, w/s, C) each; the first is the finest
    upsampling: Upsampling
    grid: TileGrid | None = None  # None: one tile
    region: Region | None = None  # None: every patch counts

    @property
    def images(self) -> int:
        """Number of images, N."""
        return len(self.layers[0]) // self._tiles

    @property
    def patches_per_image(self) -> int:
        """Patches of all tiles of an image, T·h·w."""
        return self._tiles * self._patches_per_tile

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the whole input's patch grid."""
        return self._tile_cells if self.grid is None else self.grid.cells

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each layer."""
        return tuple(layer.shape[3] for layer in self.layers)

    @property
    def _tile_cells(self) -> tuple[int, int]:
        height, width = self.layers[0].shape[1:3]
        return height, width

    @property
    def _tiles(self) -> int:
        return 1 if self.grid is None else self.grid.tiles

    @property
    def _patches_per_tile(self) -> int:
        height, width = self._tile_cells
        return height * width

    def rows_of(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of all patches that count, in the order of the given images."""
        patches = np.arange(self.patches_per_image)
        if self.region is not None:
            inside = self.region.patches
            patches = np.flatnonzero(inside if self.grid is None else self.grid.pieces(inside))
        rows: NDArray[np.int64] = (images[:, None] * self.patches_per_image + patches).ravel()
        return rows

    def tiles_of(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the tiles of some images."""
        tiles: NDArray[np.int64] = (images[:, None] * self._tiles + np.arange(self._tiles)).ravel()
        return tiles

    def owned_rows(self, image: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of some patches of one image, numbered on the grid of the whole input.

        If several tiles contain a patch, the row comes from the tile that owns it.
        """
        start = image * self.patches_per_image
        if self.grid is None:
            return start + places
        rows = np.empty(self.grid.cells, np.int64)
        numbers = np.arange(self._patches_per_tile).reshape(self._tile_cells)
        for tile in range(self.grid.tiles):
            owned = self.grid.owned(tile)
            self.grid.piece(rows, tile)[owned] = tile * numbers.size + numbers[owned]
        found: NDArray[np.int64] = start + rows.ravel()[places]
        return found

    def as_network_output(self, image: int) -> tuple[NDArray[np.float32], ...]:
        """One image's layers in the network's order: (T, C, h/s, w/s) each."""
        tiles = slice(image * self._tiles, (image + 1) * self._tiles)
        return tuple(
            np.ascontiguousarray(layer[tiles].transpose(0, 3, 1, 2)) for layer in self.layers
        )

    def project(
        self, matrix: NDArray[np.float32], target: NDArray[np.float32], progress: Progress = silent
    ) -> None:
        """Multiply every patch vector with a matrix.

        Args:
            matrix: (D, d).
            target: Array for the result, (rows, d), in row order.
            progress: Called with the number of tiles that are done.
        """
        finest, *others = np.split(matrix, np.cumsum(self.channels)[:-1])
        patches, tiles = self._patches_per_tile, len(self.layers[0])
        for tile in range(tiles):
            block = target[tile * patches : (tile + 1) * patches]
            np.matmul(self.layers[0][tile].reshape(patches, -1), finest, out=block)
            for layer, part in zip(self.layers[1:], others, strict=True):
                height, width, channels = layer[tile].shape
                product = layer[tile].reshape(-1, channels) @ part
                fine = self._upsample(product.reshape(height, width, -1))
                block += fine.reshape(patches, -1)
            progress(tile + 1, tiles)

    def take(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], ...]:
        """Some patch vectors, in the order of `rows`: (M, C) for each layer."""
        patches = self._patches_per_tile
        tiles, places = np.divmod(rows, patches)
        taken = []
        for layer in self.layers:
            channels = layer.shape[3]
            if layer.shape[1:3] == self._tile_cells:
                taken.append(layer.reshape(-1, channels)[rows])
                continue
            own = np.empty((len(rows), channels), np.float32)
            for tile in np.unique(tiles):
                fine = self._upsample(layer[tile]).reshape(patches, -1)
                wanted = tiles == tile
                own[wanted] = fine[places[wanted]]
            taken.append(own)
        return tuple(taken)

    def origins(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """(image number, y, x on the grid of the whole input) of some rows, (M, 3)."""
        tiles, places = np.divmod(rows, self._patches_per_tile)
        images, tiles = np.divmod(tiles, self._tiles)
        y, x = np.divmod(places, self._tile_cells[1])
        if self.grid is not None:
            corners = np.array(self.grid.corners_px)[tiles] // self.grid.patch_px
            y, x = y + corners[:, 0], x + corners[:, 1]
        return np.stack([images, y, x], axis=1).astype(np.int32)

    def _upsample(self, coarse: NDArray[np.float32]) -> NDArray[np.float32]:
        """(h/s, w/s, d) -> (h, w, d)."""
        height, width = self._tile_cells
        if coarse.shape[:2] == (height, width):
            return coarse
        rows = upsampling_matrix(height, coarse.shape[0], self.upsampling)
        columns = upsampling_matrix(width, coarse.shape[1], self.upsampling)
        tall = np.tensordot(rows, coarse, axes=1)  # (h, w/s, d)
        fine: NDArray[np.float32] = columns @ tall
        return fine


def keep_images(store: FeatureStore, kept: NDArray[np.int64]) -> FeatureStore:
    """Keep the features of some images, moved in place: the old store is invalid afterwards.

    Args:
        store: Features of N images.
        kept: Numbers of the images to keep, ascending.
    """
    tiles = store.tiles_of(kept)
    for place, tile in enumerate(tiles):
        if place < tile:
            for layer in store.layers:
                layer[place] = layer[tile]
    return replace(store, layers=tuple(layer[: len(tiles)] for layer in store.layers))


def extract_features(
    network: Network,
    inputs: Images,
    *,
    upsampling: Upsampling,
    storage: Storage,
    bank_rows: int = 0,
    progress: Progress = silent,
) -> FeatureStore:
    """Run the network over all images, in batches, into preallocated arrays.

    If images are tiled or have a region of interest, the caller adds `grid` and `region`.

    Args:
        network: uint8 (B, H, W, 3) -> layers (B, C, h/s, w/s), the finest first.
        inputs: Preprocessed images or their tiles, uint8 (N·T, H, W, 3), N >= 1.
        upsampling: How coarse layers will be upsampled to the patch grid.
        storage: Allocates the arrays.
        bank_rows: Rows of the memory bank to come; its part of the budget is reserved.
        progress: Called with the number of images that are done.
    """
    count = len(inputs)
    stores: list[NDArray[np.float32]] = []
    for start in range(0, count, BATCH_IMAGES):
        layers = [
            layer.transpose(0, 2, 3, 1) for layer in network(inputs[start : start + BATCH_IMAGES])
        ]
        if not stores:
            row_bytes = 4 * sum(layer.shape[3] for layer in layers)
            storage.set_aside(_BANK_COPIES * bank_rows * row_bytes)
            stores = [storage.allocate((count, *layer.shape[1:])) for layer in layers]
        for store, layer in zip(stores, layers, strict=True):
            store[start : start + BATCH_IMAGES] = layer
        progress(min(start + BATCH_IMAGES, count), count)
    return FeatureStore(layers=tuple(stores), upsampling=upsampling)


def make_bank(
    store: FeatureStore,
    rows: NDArray[np.int64],
    neighbours: int,
    *,
    precision: BankPrecision = "float32",
) -> MemoryBank:
    """Make the memory bank of some rows, with a table of the K nearest rows of each row.

    K is clipped to the number of rows. Norms and table are computed from the stored rows, after
    rounding to `precision`.
    """
    layers = tuple(layer.astype(precision, copy=False) for layer in store.take(rows))
    whole = np.concatenate(layers, axis=1).astype(np.float32, copy=False)
    norms = squared_lengths(whole)
    return MemoryBank(
        layers=layers,
        norms=norms,
        origins=store.origins(rows),
        neighbours=nearest_rows(whole, norms, min(neighbours, len(rows))),
    )
