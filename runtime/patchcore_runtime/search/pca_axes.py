"""The first principal axes of a bank, and the number of axes that makes a search fastest.

(M, C) -> centre (C,), orthonormal axes T (C, k), k by trial. A network's patches vary mostly along
a few directions. With t = xT and the residual r = x - tTᵀ, a product is exactly
q·m = t_q·t_m + r_q·r_m, and |r_q·r_m| <= |r_q||r_m| is small. More axes make products longer but
leave fewer rows whose distance must be computed. The number of these rows is estimated on rows of
the bank itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank, squared_lengths
from patchcore_runtime.bank.neighbours import nearest_rows

_MOST_AXES = 256
_ROUNDS = 3  # of subspace iteration; axes need not be optimal, since residuals cover the rest
_SAMPLE_ROWS = 4096
_TRIED_ROWS = 64
_LADDER = (8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, _MOST_AXES)
_FARTHER = 1.25  # squared: patches of an image are farther from the bank than the bank's own rows
_MEASURING = 128  # multiplications that cost as much as one channel of a computed distance
ROUNDED_UP = np.float32(1 + 1e-5)  # factor that exceeds the rounding error of float32 lengths

Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Axes:
    """A centre and k orthonormal axes for vectors (N, C)."""

    centre: Vectors  # (C,)
    axes: Vectors  # (C, k), orthonormal, largest variance first

    @property
    def count(self) -> int:
        """Return the number of axes, k."""
        return len(self.axes.T)

    def first(self, count: int) -> "Axes":
        """Return the first `count` axes."""
        return Axes(centre=self.centre, axes=np.ascontiguousarray(self.axes[:, :count]))

    def split(self, rows: Vectors) -> tuple[Vectors, Vectors, Vectors]:
        """Split rows (N, C) into coordinates (N, k), residual lengths and squared lengths (N,)."""
        centred: Vectors = rows - self.centre
        main = centred @ self.axes
        rest = squared_lengths(centred - main @ self.axes.T)
        return main, np.sqrt(rest) * ROUNDED_UP, squared_lengths(centred)


def axes_of(bank: MemoryBank) -> Axes:
    """Compute the axes of a bank with which a search costs least."""
    some = _spread(bank.rows, _SAMPLE_ROWS)
    sample = bank.whole_rows(some)
    axes = _principal(sample)
    return axes if bank.rows == 1 else axes.first(_cheapest(bank, axes, some, sample))


def _spread(rows: int, count: int) -> NDArray[np.int64]:
    """Return at most `count` evenly spaced row numbers."""
    return np.arange(0, rows, -(-rows // count))


def _principal(sample: Vectors) -> Axes:
    centre = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred, channels = sample - centre, len(centre)
    drawn = np.random.default_rng(0).standard_normal((channels, min(_MOST_AXES, channels)))
    axes = drawn.astype(np.float32)
    for _ in range(_ROUNDS):
        axes = np.linalg.qr(centred.T @ (centred @ axes))[0]
    along = (centred @ axes).astype(np.float64)
    _, turned = np.linalg.eigh(along.T @ along)
    axes = np.linalg.qr(axes @ turned[:, ::-1])[0].astype(np.float32)
    return Axes(centre=centre, axes=axes)


def _cheapest(bank: MemoryBank, axes: Axes, some: NDArray[np.int64], sample: Vectors) -> int:
    """Choose k: a row costs k multiplications, and more if its distance must be computed."""
    tried = _spread(bank.rows, _TRIED_ROWS)
    nearest = _nearest_others(bank, tried) * np.float32(_FARTHER)
    own, _, own_squares = axes.split(bank.whole_rows(tried))
    others, _, squares = axes.split(sample)
    others_of_tried = tried[:, None] != some

    def cost(count: int) -> float:
        main, mains = own[:, :count], others[:, :count]
        rest, rests = (
            np.sqrt(np.maximum(whole - squared_lengths(part), 0))
            for whole, part in ((own_squares, main), (squares, mains))
        )
        bounds = main @ mains.T + np.outer(rest, rests)
        least = own_squares[:, None] + squares - 2 * bounds
        left = (least <= nearest[:, None]) & others_of_tried
        return count + float(left.mean()) * _MEASURING * len(axes.centre)

    return min((count for count in (*_LADDER, axes.count) if count <= axes.count), key=cost)


def _nearest_others(bank: MemoryBank, tried: NDArray[np.int64]) -> Vectors:
    """Compute the squared distance of some rows to their nearest other row, (N,)."""
    if bank.neighbours.shape[1] > 1:
        nearest = bank.neighbours[tried, 1]
    else:
        whole = bank.whole_rows(slice(None))
        nearest = nearest_rows(whole, bank.norms, 2, wanted=tried)[:, 1]
    return squared_lengths(bank.whole_rows(tried) - bank.whole_rows(nearest))
