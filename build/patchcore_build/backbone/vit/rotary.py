"""Rotary positions of DINOv3: a patch grid -> cosines and sines, (N, 64) each.

The first half of a head's numbers and the second half are pairs, which are turned by an angle:
16 angles for the row of the patch, 16 for its column. Source: github.com/facebookresearch/dinov3,
`layers/rope_position_encoding`, with the period base 100 of its models.
"""

import numpy as np
from numpy.typing import NDArray

from patchcore_build.vision_transformers import HEAD_SIZE

_BASE = 100.0


def rotary_tables(
    grid: tuple[int, int], *, prefix: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute what queries and keys are multiplied with.

    A vector x becomes x * cosine + (its halves swapped) * sine.

    Args:
        grid: h and w, the patches.
        prefix: Tokens in front of the patches; they are not turned.

    Returns:
        Cosine and sine, (prefix + h·w, 64).
    """
    count = HEAD_SIZE // 4
    frequencies = _BASE ** -(np.arange(count) / count)
    rows, columns = ((2 * (np.arange(side) + 0.5) / side - 1) for side in grid)
    centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    angles = (2 * np.pi * centres[:, :, None] * frequencies).reshape(len(centres), -1)
    still = np.zeros((prefix, HEAD_SIZE // 2))
    angles = np.concatenate([still, angles])
    cosine = np.tile(np.cos(angles), 2)
    sine = np.concatenate([-np.sin(angles), np.sin(angles)], axis=1)
    return cosine.astype(np.float32), sine.astype(np.float32)
