"""Round vectors to int8 so that their products bound the true ones from above.

(N, C) -> int8 rows, their scales, and what the rounding may have changed. With q = h + e and
m = g + f, each a rounded vector and its error, Cauchy and Schwarz give
q·m <= h·g + |h||f| + |e||m|. The second term enters the integer product itself, as extra columns
whose products are never smaller; the third is left to the caller as a length per bank row.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ZERO = 128  # stands for 0 among a patch's bytes
_LARGEST = 127
_SMALLEST_SCALE = np.float32(1e-30)  # of what is all zero
_SLACK = 1 + 1e-5  # lengths are float32: rounded up by far more than they may be off


def extra_columns(channels: int) -> int:
    """Columns that hold |h||f| of vectors that long, whatever their numbers."""
    return math.ceil(channels / 2 / _LARGEST)


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundedRows:
    """Rows of a bank as the right side of an integer product."""

    columns: NDArray[np.int8]  # (C + extra, R)
    scales: NDArray[np.float32]  # (R,)
    lengths: NDArray[np.float32]  # |m|, rounded up, (R,)


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundedPatches:
    """Patches of one picture as the left side of that product."""

    rows: NDArray[np.uint8]  # (P, C + extra)
    scale: np.float32
    error: float  # the largest |e|, rounded up


def round_rows(rows: NDArray[np.float32]) -> RoundedRows:
    """Round bank rows (R, C), each with a scale of its own."""
    scales = _scale(np.abs(rows).max(axis=1))
    whole = np.rint(rows / scales[:, None])
    errors = _lengths(rows / scales[:, None] - whole)  # |f| / scale, at most sqrt(C) / 2
    step = _step(rows.shape[1])
    bounds = np.ceil(errors * _SLACK / step)[:, None]
    bounds = np.repeat(bounds, extra_columns(rows.shape[1]), axis=1)
    together = np.concatenate([whole, np.minimum(bounds, _LARGEST)], axis=1)
    return RoundedRows(
        columns=np.ascontiguousarray(together.T.astype(np.int8)),
        scales=scales,
        lengths=_lengths(rows) * np.float32(_SLACK),
    )


def round_patches(patches: NDArray[np.float32]) -> RoundedPatches:
    """Round patches (P, C) with one scale."""
    scale = np.float32(_scale(np.abs(patches).max(keepdims=True).ravel())[0])
    scaled = patches / scale
    whole = np.rint(scaled)
    error = float(_lengths(scaled - whole).max()) * float(scale) * _SLACK
    channels = patches.shape[1]
    bounds = np.ceil(_lengths(whole) * _SLACK * _step(channels))  # |h| / scale in units of 1 / step
    rows = np.empty((len(patches), channels + extra_columns(channels)), np.uint8)
    rows[:, :channels] = whole + ZERO
    for column in range(channels, rows.shape[1]):  # shared among columns that repeat one bound
        part = np.minimum(bounds, _LARGEST)
        rows[:, column] = part + ZERO
        bounds = bounds - part
    return RoundedPatches(rows=rows, scale=scale, error=error)


def _step(channels: int) -> float:
    """Unit of a bank row's error, in units of its scale: 127 of them are the largest possible."""
    return math.sqrt(channels) / 2 / _LARGEST


def _scale(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    scales: NDArray[np.float32] = np.maximum(largest / np.float32(_LARGEST), _SMALLEST_SCALE)
    return scales


def _lengths(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return lengths
