"""Layers on their own grids -> whole patch vectors on the patch grid.

Layers (B, C, h/s, w/s) -> patches (B·h·w, D). Upsampling is linear and separable, so it needs two
small matrices for each layer, one for each side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.manifest.features import Layout, Upsampling

Matrix = NDArray[np.float32]


def upsampling_matrix(size: int, cells: int, mode: Upsampling = "bilinear") -> NDArray[np.float32]:
    """Compute weights (size, cells) that upsample a row of cells, with half-pixel centres.

    Each output is a weighted mean of the inputs. Beyond the outermost centres the outermost value
    is repeated. `nearest` copies the cell that covers the output's centre.
    """
    centres = (np.arange(size) + 0.5) * cells / size - 0.5  # in cells
    if mode == "nearest":
        lower = np.rint(centres).astype(np.int64)
        fraction = np.zeros(size)
    else:
        lower = np.floor(centres).astype(np.int64)
        fraction = centres - lower
    matrix = np.zeros((size, cells))
    rows = np.arange(size)
    np.add.at(matrix, (rows, np.clip(lower, 0, cells - 1)), 1 - fraction)
    np.add.at(matrix, (rows, np.clip(lower + 1, 0, cells - 1)), fraction)
    return matrix.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Upsampler:
    """How one layer of a stride s is upsampled to the patch grid: (h, h/s) and (w, w/s)."""

    down: Matrix
    across: Matrix

    def grid(self, layer: Matrix) -> Matrix:
        """Upsample (..., h/s, w/s) to (..., h, w)."""
        fine: Matrix = self.down @ layer @ self.across.T
        return fine

    def patch(self, layer: Matrix, y: int, x: int) -> Matrix:
        """Return one patch, (C,), of a layer (C, h/s, w/s)."""
        found: Matrix = (layer @ self.across[x]) @ self.down[y]
        return found


def upsamplers(layout: Layout) -> tuple[Upsampler | None, ...]:
    """Return how each layer is upsampled; None for a layer that has the patch grid already."""
    height, width = layout.grid
    mode = layout.upsampling
    return tuple(
        None
        if layer.stride == 1
        else Upsampler(
            upsampling_matrix(height, layer.height, mode),
            upsampling_matrix(width, layer.width, mode),
        )
        for layer in layout.layers
    )


def whole_patches(layers: Sequence[Matrix], ups: Sequence[Upsampler | None]) -> Matrix:
    """Compute patch vectors (B·h·w, D) from layers (B, C, h/s, w/s)."""
    fine = [up.grid(layer) if up else layer for layer, up in zip(layers, ups, strict=True)]
    whole = np.concatenate(fine, axis=1)
    return np.ascontiguousarray(whole.transpose(0, 2, 3, 1)).reshape(-1, whole.shape[1])


def one_patch(
    layers: Sequence[Matrix], ups: Sequence[Upsampler | None], y: int, x: int
) -> tuple[Matrix, ...]:
    """Return one patch of one tile's layers (C, h/s, w/s): a (C,) for each layer."""
    return tuple(
        up.patch(layer, y, x) if up else layer[:, y, x]
        for layer, up in zip(layers, ups, strict=True)
    )
