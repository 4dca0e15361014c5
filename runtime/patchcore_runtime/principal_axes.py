"""A bank's first principal axes, and how many of them make a search fastest.

(M, C) -> centre (C,), orthonormal axes T (C, k), k by trial. A network's patches vary mostly along
a few directions: with t = xT and the rest r = x - tTᵀ, products part exactly, q·m = t_q·t_m +
r_q·r_m, and |r_q·r_m| <= |r_q||r_m| is little. More axes make products longer and leave fewer rows
to measure. How many are left is tried on rows of the bank itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_AXES = 256
_ROUNDS = 3  # of subspace iteration; axes need not be the best ones: what they miss is in the rest
_SAMPLE_ROWS = 4096
_TRIED_ROWS = 64
_LADDER = (8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, _MOST_AXES)
_FARTHER = 1.25  # squared: a picture's patches are farther from the bank than its rows are
_MEASURING = 128  # a channel of a row that is left takes the time of so many multiplications
_ROWS_AT_ONCE = 2048
ROUNDED_UP = np.float32(1 + 1e-5)  # lengths are float32: by far more than they may be off

Vectors = NDArray[np.float32]
Layers = Sequence[NDArray[np.floating]]


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
        rest = squares(centred - main @ self.axes.T)
        return main, np.sqrt(rest) * ROUNDED_UP, squares(centred)


def axes_of(layers: Layers) -> Axes:
    """The axes of a bank, (M, C2) and (M, C3), with which a search costs least."""
    rows = len(layers[0])
    sample = taken(layers, _spread(rows, _SAMPLE_ROWS))
    axes = _principal(sample)
    return axes if rows == 1 else axes.first(_cheapest(layers, axes))


def taken(layers: Layers, rows: NDArray[np.int64] | slice) -> Vectors:
    """Some rows as whole vectors, (N, C)."""
    return np.concatenate([layer[rows] for layer in layers], axis=1, dtype=np.float32)


def squares(rows: Vectors) -> Vectors:
    """Squared length of each row."""
    result: Vectors = np.einsum("ij,ij->i", rows, rows)
    return result


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


def _cheapest(layers: Layers, axes: Axes) -> int:
    """How many axes: a row costs k multiplications, and more where it is left to measure."""
    tried, others = (_spread(len(layers[0]), count) for count in (_TRIED_ROWS, _SAMPLE_ROWS))
    nearest = _nearest_others(layers, tried) * np.float32(_FARTHER)
    own, rows = taken(layers, tried), taken(layers, others)

    def cost(count: int) -> float:
        first = axes.first(count)
        (main, rest, _), (mains, rests, _) = first.split(own), first.split(rows)
        least = _squared_distances(main, mains) + (rest[:, None] - rests) ** 2
        left = (least <= nearest[:, None]) & (tried[:, None] != others)
        return count + float(left.mean()) * _MEASURING * len(axes.centre)

    return min((count for count in (*_LADDER, axes.count) if count <= axes.count), key=cost)


def _nearest_others(layers: Layers, tried: NDArray[np.int64]) -> Vectors:
    """Squared distance of some rows to the nearest other row, (N,)."""
    own, count = taken(layers, tried), len(layers[0])
    nearest = np.full(len(tried), np.inf, np.float32)
    for start in range(0, count, _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        found = _squared_distances(own, taken(layers, block))
        found[tried[:, None] == np.arange(count)[block]] = np.inf
        nearest = np.minimum(nearest, found.min(axis=1))
    return nearest


def _squared_distances(left: Vectors, right: Vectors) -> Vectors:
    table: Vectors = squares(left)[:, None] + squares(right) - 2 * (left @ right.T)
    return table
