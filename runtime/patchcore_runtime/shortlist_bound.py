"""Split vectors into a main part and a rest, so that cheap products bound the true ones.

(N, C) -> main parts (N, k) in float32, along a bank's first principal axes; of the rest, nothing
but its length, or int8 with a scale and the length of the error. A network's patches vary mostly
along a few directions, so a rest is short. With k orthonormal axes T, t = xT and r = x - tTᵀ,
products part exactly: q·m = t_q·t_m + r_q·r_m. With r_q = h + e and r_m = g + f, each a rounded
vector and its error, Cauchy and Schwarz give r_q·r_m <= h·g + |h||f| + |e||r_m|, and the same sum
taken off h·g is a bound from below. Where nothing is kept, h and g are 0: |r_q||r_m| is left.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
SMALLEST_SCALE = np.float32(1e-30)  # of what is all zero
ROUNDED_UP = np.float32(1 + 1e-5)  # lengths are float32: by far more than they may be off


class Rest(Enum):
    """How a patch's rest is kept: by the largest of its bytes.

    7 bits are for processors that add pairs of products in 16.
    """

    EIGHT_BITS = 127
    SEVEN_BITS = 63
    LENGTH_ALONE = 0

    @property
    def zero(self) -> int:
        """Stands for 0: products take a patch's bytes without a sign."""
        return self.value + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """How vectors (N, C) of one layer are split: about what centre, along which axes."""

    centre: NDArray[np.float32]  # (C,)
    axes: NDArray[np.float32]  # (C, k), orthonormal

    @property
    def main_columns(self) -> int:
        """Axes, k."""
        return len(self.axes.T)


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitRows:
    """Rows of a bank as the right side of products."""

    main: NDArray[np.float32]  # (R, k)
    rests: NDArray[np.int8]  # (C, R)
    scales: NDArray[np.float32]  # (R,)
    errors: NDArray[np.float32]  # |f|, (R,)
    rest_lengths: NDArray[np.float32]  # |r|, (R,)
    squares: NDArray[np.float32]  # |x|², (R,)


def split_rows(rows: NDArray[np.floating], split: Split) -> SplitRows:
    """Split bank rows (R, C), each with a scale of its own."""
    centred: NDArray[np.float32] = rows.astype(np.float32) - split.centre
    main = centred @ split.axes
    rest = centred - main @ split.axes.T
    scales = np.maximum(np.abs(rest).max(axis=1) / np.float32(LARGEST), SMALLEST_SCALE)
    rounded = np.rint(rest / scales[:, None])
    return SplitRows(
        main=main,
        rests=np.ascontiguousarray(rounded.T.astype(np.int8)),
        scales=scales,
        errors=lengths(rest - rounded * scales[:, None]) * ROUNDED_UP,
        rest_lengths=lengths(rest) * ROUNDED_UP,
        squares=squares(centred),
    )


def squares(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared length of each row."""
    result: NDArray[np.float32] = np.einsum("ij,ij->i", rows, rows)
    return result


def lengths(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Length of each row."""
    return np.sqrt(squares(rows))
