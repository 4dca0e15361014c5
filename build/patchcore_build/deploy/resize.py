"""Pillow's antialiased resize as nodes of a graph: uint8 photographs of one size -> inputs, exact.

(B, H', W', 3) uint8 -> (B, H, W, 3) uint8. A side of n pixels becomes one of m by whole weights of
22 bits (artifacts/FORMAT.md, section Preprocess). The weights are split into pieces of so few bits
that products of float32 matrices hold whole numbers below 2^24, which float32 keeps exactly. The
result equals Pillow's to the bit on every device that multiplies float32 in float32.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from patchcore_build.deploy.parts import Parts
from patchcore_runtime.image.placement import place_input
from patchcore_runtime.manifest.manifest import Preprocessing, ResampleFilter

_BITS = 22
_EXACT = 2**24
_WHITE = 255


def _bilinear(x: float) -> float:
    return max(0.0, 1 - abs(x))


def _bicubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3 <= x < 3 else 0.0


_FILTERS: dict[ResampleFilter, tuple[Callable[[float], float], float]] = {
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


def resize_weights(
    source: int, target: int, resample: ResampleFilter, kept: range | None = None
) -> NDArray[np.int64]:
    """Compute Pillow's whole weights of one side, (target, source), in units of 2^-22.

    With `kept` only these rows, so that a crop of a long side costs no more than it keeps.
    """
    kernel, radius = _FILTERS[resample]
    scale = source / target
    stretch = max(scale, 1.0)
    kept = range(target) if kept is None else kept
    weights = np.zeros((len(kept), source), np.int64)
    for row, place in enumerate(kept):
        centre = (place + 0.5) * scale
        first = max(0, int(centre - radius * stretch + 0.5))
        last = min(source, int(centre + radius * stretch + 0.5))
        own = [kernel((at - centre + 0.5) / stretch) for at in range(first, last)]
        total = sum(own)
        for at, weight in zip(range(first, last), own, strict=True):
            fixed = weight / total * 2**_BITS
            weights[row, at] = int(fixed + math.copysign(0.5, fixed))
    return weights


def resize_and_crop(
    parts: Parts, image: str, photo: tuple[int, int], settings: Preprocessing
) -> str:
    """Add the resize and the crop of photographs of one size.

    Args:
        parts: The graph.
        image: Float32 (B, 3, H', W'), whole numbers 0 to 255.
        photo: H' and W'.
        settings: The artifact's geometry.

    Returns:
        The input, float32 (B, 3, H, W), whole numbers.
    """
    place = place_input(*photo, settings)
    sides = (
        (photo[1], place.resized_width, place.left, settings.width),
        (photo[0], place.resized_height, place.top, settings.height),
    )
    for across, (source, target, start, kept) in zip((True, False), sides, strict=True):
        if source == target:
            chosen = np.eye(source, dtype=np.float32)[start : start + kept]
            if kept != source:
                image = _multiply(parts, image, chosen, across=across)
            continue
        rows = range(start, start + kept)
        weights = resize_weights(source, target, settings.filter, rows)
        image = _resized(parts, image, weights, across=across)
    return image


def _resized(parts: Parts, image: str, weights: NDArray[np.int64], *, across: bool) -> str:
    """Add clamp((2^21 + Σ k·in) >> 22, 0, 255) by exact products of float32."""
    bits, pieces = _split(weights)
    step = parts.constant(np.float32(2**bits))
    total = ""
    for piece in pieces:  # the lowest bits first; what they carry is added to the next
        product = _multiply(parts, image, piece.astype(np.float32), across=across)
        if total:
            carried = parts.node("Floor", parts.node("Div", total, step))
            product = parts.node("Add", product, carried)
        total = product
    left = _BITS - bits * (len(pieces) - 1)
    half = parts.constant(np.float32(2 ** (left - 1)))
    unit = parts.constant(np.float32(2**left))
    shifted = parts.node("Floor", parts.node("Div", parts.node("Add", total, half), unit))
    return parts.node(
        "Clip", shifted, parts.constant(np.float32(0)), parts.constant(np.float32(255))
    )


def _split(weights: NDArray[np.int64]) -> tuple[int, list[NDArray[np.int64]]]:
    """Split weights into pieces of some bits, so that their sums with bytes stay below 2^24."""
    taps = int((weights != 0).sum(axis=1).max())
    bits = max(1, int(math.log2(_EXACT / (_WHITE * taps))))
    count = -(-_BITS // bits)
    pieces, rest = [], weights
    for _ in range(count - 1):
        higher = rest >> bits  # rounds down, so that the lower piece is never negative
        pieces.append(rest - (higher << bits))
        rest = higher
    return bits, [*pieces, rest]


def _multiply(parts: Parts, image: str, matrix: NDArray[np.float32], *, across: bool) -> str:
    """Multiply columns by a matrix (W, W'), or rows by one (H, H')."""
    if across:
        return parts.node("MatMul", image, parts.constant(matrix.T))
    return parts.node("MatMul", parts.constant(matrix), image)
