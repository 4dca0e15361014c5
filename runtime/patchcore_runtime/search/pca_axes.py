"""A bank's first principal axes, and how many of them make a search fastest.

(M, C) -> centre (C,), orthonormal axes T (C, k), k by trial. A network's patches vary mostly along
a few directions: with t = xT and the rest r = x - tTᵀ, products part exactly, q·m = t_q·t_m +
r_q·r_m, and |r_q·r_m| <= |r_q||r_m| is little. More axes make products longer and leave fewer rows
to measure. How many are left is tried on rows of the bank itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank, squared_lengths
from patchcore_runtime.bank.neighbours import nearest_rows

_MOST_AXES = 256
_ROUNDS = 3  # of subspace iteration; axes need not be the best ones: what they miss is in the rest
_SAMPLE_ROWS = 4096
_TRIED_ROWS = 64
_LADDER = (8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, _MOST_AXES)
_FARTHER = 1.25  # squared: an image's patches are farther from the bank than its rows are
_MEASURING = 128  # a channel of a row that is left takes the time of so many multiplications
ROUNDED_UP = np.float32(1 + 1e-5)  # lengths are float32: by far more than they may be off

Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Axes:
    """Where vectors (N, C) are looked at from, and along what."""

    centre: Vectors  # (C,)
    axes: Vectors  # (C, k), orthonormal, those of largest variance first

    @property
    def count(self) -> int:
        """Axes, k."""
        return len(self.axes.T)

    def first(self, count: int) -> "Axes":
        """Some of them."""
        return Axes(centre=self.centre, axes=np.ascontiguousarray(self.axes[:, :count]))

    def split(self, rows: Vectors) -> tuple[Vectors, Vectors, Vectors]:
        """Coordinates (N, k) of rows (N, C), lengths (N,) of their rests, squares of the whole."""
        centred: Vectors = rows - self.centre
        main = centred @ self.axes
        rest = squared_lengths(centred - main @ self.axes.T)
        return main, np.sqrt(rest) * ROUNDED_UP, squared_lengths(centred)


def axes_of(bank: MemoryBank) -> Axes:
    """The axes of a bank with which a search costs least."""
    some = _spread(bank.rows, _SAMPLE_ROWS)
    sample = bank.whole_rows(some)
    axes = _principal(sample)
    return axes if bank.rows == 1 else axes.first(_cheapest(bank, axes, some, sample))


def _spread(rows: int, count: int) -> NDArray[np.int64]:
    """At most `count` of some rows, evenly spread."""
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
    """How many axes: a row costs k multiplications, and more where it is left to measure."""
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
    """Squared distance of some rows to the nearest other row, (N,)."""
    if bank.neighbours.shape[1] > 1:
        nearest = bank.neighbours[tried, 1]
    else:
        whole = bank.whole_rows(slice(None))
        nearest = nearest_rows(whole, bank.norms, 2, wanted=tried)[:, 1]
    return squared_lengths(bank.whole_rows(tried) - bank.whole_rows(nearest))
