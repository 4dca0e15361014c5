"""Matrix products of picks with patch features on an accelerator, through MindSpore.

points (n, D), picks (k, D) -> products (n, k). The rest of the algorithm runs on the host and
allows for the error of a product. So a device that multiplies less exactly costs more exact
distances, and it never changes the choice of rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEP = 64  # sizes are rounded up to multiples of it, because each new shape is compiled


class DeviceProduct:
    """MindSpore's MatMul on the device that `open_device` selected.

    Accelerators may convert float32 to TF32, HF32 or even float16, which all keep 11 bits; sums
    are float32. If float16 makes a number within -1 ... 1 subnormal, its error is 2^-25 at most.
    """

    unit = 2.0**-11
    tiny = 2.0**-25
    concurrent = False  # MindSpore crashes if several threads launch operators

    def __init__(self) -> None:
        import mindspore

        self._tensor = mindspore.Tensor
        self._multiply = mindspore.ops.MatMul(transpose_b=True)

    def load(self, points: NDArray[np.float32]) -> tuple[Any, int]:
        """Move a block to the device; returns it with its number of rows before padding."""
        return self._tensor(_padded(points)), len(points)

    def multiply(self, block: tuple[Any, int], picks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Products (n, k), back on the host."""
        points, count = block
        products = self._multiply(points, self._tensor(_padded(picks))).asnumpy()
        return np.array(products[:count, : len(picks)])


def _padded(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows with zeros appended, up to the next multiple of the step."""
    return np.pad(rows, ((0, -len(rows) % _STEP), (0, 0)))
