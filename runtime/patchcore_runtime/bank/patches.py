"""Layers on their own grids -> whole patch vectors on the finer grid.

layer2 (B, C2, h, w), layer3 (B, C3, h/2, w/2) -> patches (B·h·w, C2 + C3). Upsampling is linear and
separable, so it needs two small matrices, one for each side.
"""

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.manifest.manifest import Features, Upsampling


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


def layer3_upsampling(features: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the matrices that upsample layer3 to layer2's grid, (h, h/2) and (w, w/2)."""
    fine, coarse, mode = features.layer2, features.layer3, features.layer3_upsampling
    return (
        upsampling_matrix(fine.height, coarse.height, mode),
        upsampling_matrix(fine.width, coarse.width, mode),
    )


def whole_patches(
    layer2: NDArray[np.float32],
    layer3: NDArray[np.float32],
    up_rows: NDArray[np.float32],
    up_columns: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Compute patch vectors (B·h·w, D) from layers (B, C2, h, w) and (B, C3, h/2, w/2).

    The matrices are those of `layer3_upsampling`.
    """
    whole = np.concatenate([layer2, up_rows @ layer3 @ up_columns.T], axis=1)
    return np.ascontiguousarray(whole.transpose(0, 2, 3, 1)).reshape(-1, whole.shape[1])
