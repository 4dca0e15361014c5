"""Matrix products of picked patches with blocks of patches, and the rounding error of each number.

points (n, D), picks (k, D) -> products (n, k). The coreset selection only needs to know how exact a
product is, so an accelerator can compute it instead of the host (`device_product`).
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Product(Protocol):
    """How products of picks and blocks are computed, and how exactly."""

    unit: float  # largest relative rounding error of an input number
    tiny: float  # largest absolute error of an input number within -1 ... 1 that underflows
    concurrent: bool  # whether several threads may multiply at once

    def load(self, points: NDArray[np.float32]) -> Any:
        """Move the points (n, D) of a block to the device that computes products."""

    def multiply(self, block: Any, picks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Products (n, k) of a loaded block with picks (k, D), summed in float32; a new array."""


class HostProduct:
    """NumPy's BLAS in float32, the fastest of the measured choices for these shapes."""

    unit = 2.0**-24
    tiny = 2.0**-126
    concurrent = True

    def load(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the points as they are."""
        return points

    def multiply(
        self, block: NDArray[np.float32], picks: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Products (n, k)."""
        product: NDArray[np.float32] = block @ picks.T
        return product
