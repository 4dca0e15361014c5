"""What follows a layer: the average or the adaptive pooling of neighbouring cells, as numbers.

Sizes of a layer -> weights, without MindSpore. `extractor` makes cells of them, and `own_network`
makes nodes of an ONNX graph.
"""

import math

import numpy as np
from numpy.typing import NDArray


def pooling_weights(channels: int, side: int, outputs: int, layers: int) -> NDArray[np.float32]:
    """Compute the original's two adaptive poolings of one layer as a kernel.

    The values of a neighbourhood, channel by channel, are pooled to `outputs · layers` numbers, and
    the numbers of all layers together to as many again; each result is a mean of `layers` of them.

    Returns:
        (outputs, channels, side, side).
    """
    values, bins = channels * side * side, outputs * layers
    places = np.arange(bins)
    starts, ends = places * values // bins, -(-(places + 1) * values // bins)
    matrix = np.zeros((outputs, values))
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        matrix[place // layers, start:end] += 1 / ((end - start) * layers)
    return matrix.reshape(outputs, channels, side, side).astype(np.float32)


def grouped(weights: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Split a kernel into the most groups that lose nothing: (O, C/groups, k, k), and groups."""
    outputs, channels = weights.shape[:2]
    used = np.abs(weights).sum(axis=(2, 3)) > 0
    most = math.gcd(outputs, channels)
    for groups in (count for count in range(most, 1, -1) if most % count == 0):
        own = np.kron(np.eye(groups), np.ones((outputs // groups, channels // groups))) > 0
        if not (used & ~own).any():
            parts = weights.reshape(groups, outputs // groups, groups, channels // groups, -1)
            kept = parts[np.arange(groups), :, np.arange(groups)]
            shape = (outputs, channels // groups, *weights.shape[2:])
            return np.ascontiguousarray(kept.reshape(shape)), groups
    return weights, 1


def border_weight(grid: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Cells of a window over those of them inside of the layer, shape (1, 1, h, w)."""
    reach = side // 2
    inside = [
        np.minimum(places, reach) + 1 + np.minimum(places[::-1], reach)
        for places in (np.arange(length) for length in grid)
    ]
    return (side * side / np.outer(*inside)).astype(np.float32)[None, None]
