"""Patch distances (h, w) -> image score and anomaly map (H, W).

PatchCore (Roth et al. 2021, arXiv:2106.08265), section 3.3: eq. 6 selects the patch with the
largest nearest distance, eq. 7 weights it. Upsampling and smoothing are linear and separable, so
the map is two small matrix products: map = A d B^T, with A (H, h) and B (W, w) computed once.
"""

import math

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.patches import upsampling_matrix
from patchcore_runtime.manifest.manifest import MapBorder, Scoring

_LARGEST_LONE_PRODUCT = 2**17  # multiplications; OpenBLAS starts threads above 2^18
_TRUNCATE = 4.0  # the Gaussian is cut off at four sigma, as in scipy.ndimage


def gaussian_matrix(
    size: int, sigma_px: float, border: MapBorder = "repeated"
) -> NDArray[np.float64]:
    """Compute weights (size, size) of a Gaussian blur along one side, reflecting at the border.

    A `repeated` border repeats its last pixel (d c b a | a b c d), as scipy.ndimage's `reflect`
    does; a `mirrored` one does not (d c b | a b c d), as scipy.ndimage's `mirror`.
    """
    radius = int(_TRUNCATE * sigma_px + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma_px) ** 2)
    kernel /= kernel.sum()
    rows = np.repeat(np.arange(size), len(offsets))
    reached = rows + np.tile(offsets, size)
    if border == "repeated":
        period = reached % (2 * size)
        columns = np.minimum(period, 2 * size - 1 - period)
    else:
        period = reached % max(1, 2 * size - 2)
        columns = np.minimum(period, 2 * size - 2 - period) if size > 1 else period
    matrix = np.zeros((size, size))
    np.add.at(matrix, (rows, columns), np.tile(kernel, size))
    return matrix


def map_matrix(size: int, cells: int, scoring: Scoring) -> NDArray[np.float32]:
    """Compute upsampling and blur of one side as one matrix, (size, cells)."""
    blur = gaussian_matrix(size, scoring.sigma_px, scoring.map_border)
    return (blur @ upsampling_matrix(size, cells, scoring.map_upsampling)).astype(np.float32)


def anomaly_map(
    distances: NDArray[np.float32],
    rows_matrix: NDArray[np.float32],
    columns_matrix: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Compute the smoothed map (H, W) from distances (h, w), in the same unit.

    Args:
        distances: Nearest distance of each patch, (h, w).
        rows_matrix: `map_matrix` of the height, (H, h).
        columns_matrix: `map_matrix` of the width, (W, w).
    """
    return _multiply(_multiply(rows_matrix, distances), columns_matrix.T)


def _multiply(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply matrices in blocks of rows so small that OpenBLAS uses only this thread.

    Its helper threads would keep spinning for tens of milliseconds and take a core from
    onnxruntime: 16 ms instead of 11 ms per image with resnet18 on two cores.
    """
    product = np.empty((len(left), right.shape[1]), np.float32)
    step = max(1, _LARGEST_LONE_PRODUCT // right.size)
    for start in range(0, len(left), step):
        np.matmul(left[start : start + step], right, out=product[start : start + step])
    return product


def paper_score(distance: float, neighbour_distances: NDArray[np.floating]) -> float:
    """Compute eq. 7: the largest patch distance, weighted by the rarity of its nearest row.

    Args:
        distance: s* = d(p*, m*).
        neighbour_distances: d(p*, m) for m in N_b(m*), including m*, (K,).

    Returns:
        (1 - exp(s*) / sum exp(d)) s*, computed with the largest exponent taken out; s* itself
        if the bank has one row.
    """
    if len(neighbour_distances) < 2:
        return distance
    # s* is one of the neighbours' distances, but rounded differently, so it may be the largest.
    largest = max(distance, float(neighbour_distances.max()))
    own = math.exp(distance - largest)
    total = float(np.exp(neighbour_distances.astype(np.float64) - largest).sum())
    return (1 - own / max(own, total)) * distance


def modelzoo_score(squared_distances: NDArray[np.floating]) -> float:
    """Compute the MindSpore Models score: softmax over the patch's K nearest squared distances.

    Args:
        squared_distances: Squared distances from p* to its K nearest rows, ascending, (K,).

    Returns:
        (1 - max exp(d²) / sum exp(d²)) d²_1 with the largest exponent taken out, so that the
        score is finite even if the original overflows; d²_1 itself if the bank has one row.
    """
    nearest = float(squared_distances[0])
    if len(squared_distances) < 2:
        return nearest
    exponents = squared_distances.astype(np.float64) - float(squared_distances.max())
    return (1 - 1 / float(np.exp(exponents).sum())) * nearest
