"""Products of picks and patch features on an accelerator, through MindSpore.

points (n, D), picks (k, D) -> products (n, k). The algorithm stays the host's: it only asks for
products and allows for their error, so a device's coarser multiplier costs more exact distances
and never another choice of rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEP = 64  # sizes are rounded up to its multiples: each new shape is compiled once


class DeviceProduct:
    """MindSpore's MatMul on the device that `open_device` chose.

    Accelerators may read float32 as TF32, HF32 or even float16, all of which keep 11 bits; sums
    are float32. Numbers within -1 ... 1 that float16 makes subnormal are off by 2^-25 at most.
    """

    unit = 2.0**-11
    tiny = 2.0**-25
    concurrent = False  # MindSpore dies of operators launched from several threads

    def __init__(self) -> None:
        import mindspore

        self._tensor = mindspore.Tensor
        self._multiply = mindspore.ops.MatMul(transpose_b=True)

    def load(self, points: NDArray[np.float32]) -> tuple[Any, int]:
        """Bring a block to the device; says how many of its rows are real."""
        return self._tensor(_padded(points)), len(points)

    def multiply(self, block: tuple[Any, int], picks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Products (n, k), back on the host."""
        points, count = block
        products = self._multiply(points, self._tensor(_padded(picks))).asnumpy()
        return np.array(products[:count, : len(picks)])


def _padded(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Zeros below, up to the next multiple of the step."""
    return np.pad(rows, ((0, -len(rows) % _STEP), (0, 0)))
