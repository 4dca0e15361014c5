"""Position embeddings of a square grid -> those of any grid, as the original interpolates them.

(M, M, D) float32 -> (h, w, D) float32. DINOv2 calls torch's bicubic `interpolate`. Without
antialias its kernel has a = -0.75, and the grid that counts is `offset` cells larger than the real
one (a kludge that the trained weights have seen). With antialias a = -0.5, and a smaller grid is
averaged, as Pillow does. Both are two matrix products, one along each side.
"""

import numpy as np
from numpy.typing import NDArray

_SHARP, _SMOOTH = -0.75, -0.5  # a of the bicubic kernel, without and with antialias


def interpolate_positions(
    embeddings: NDArray[np.float32], height: int, width: int, *, offset: float, antialias: bool
) -> NDArray[np.float32]:
    """Interpolate a grid of embeddings.

    Args:
        embeddings: Shape (M, M, D).
        height: h, cells of the new grid.
        width: w.
        offset: Cells that are added to h and w for the scale; 0 takes the scale of the real grid.
        antialias: Average over all cells that a new cell covers.

    Returns:
        Shape (h, w, D); `embeddings` themselves if h = w = M.
    """
    side = len(embeddings)
    if height == width == side:
        return embeddings
    rows = _weights(side, height, offset=offset, antialias=antialias)
    columns = _weights(side, width, offset=offset, antialias=antialias)
    wide = np.einsum("xj,ijd->ixd", columns, embeddings.astype(np.float64))
    return np.asarray(np.einsum("yi,ixd->yxd", rows, wide), np.float32)


def _weights(source: int, target: int, *, offset: float, antialias: bool) -> NDArray[np.float64]:
    """The matrix (target, source) of one side; every row sums to 1."""
    scale = source / (target + offset)
    centres = (np.arange(target) + 0.5) * scale
    if antialias:
        stretch = max(scale, 1.0)
        distance = (np.arange(source) + 0.5 - centres[:, None]) / stretch
        weights = _cubic(np.abs(distance), _SMOOTH)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))
    weights = np.zeros((target, source))
    first = np.floor(centres - 0.5).astype(np.int64)
    for step in range(-1, 3):
        cells = first + step
        share = _cubic(np.abs(cells + 0.5 - centres), _SHARP)
        # Cells beyond the edge repeat the outermost one.
        np.add.at(weights, (np.arange(target), cells.clip(0, source - 1)), share)
    return weights


def _cubic(x: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """Keys' bicubic kernel at |x|."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
