"""Patch features prepared for many distance bounds: centred, scaled, and sorted into clusters.

features (P, D) -> blocks of near rows, the products of picks with a block, exact pair distances.
A float32 product only bounds a squared distance, with a proven margin (Higham 2002, section 3.1);
`measure` gives it in float64 by direct difference. Rows are sorted by the pick they lie nearest
to (the anchor a), so the triangle inequality d(c, x) >= d(c, a) - d(a, x) lets a pick c pass by
whole blocks of rows x (Elkan 2003).
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

NEVER = -np.inf  # gap of a row that is picked or left out, below every true gap

_PART = 2**19  # floats centred at once: 2 MB stay in the cache
_PAIRS = 2048  # pairs measured at once in float64
_BLOCK_ROWS = 512  # fewer would pass by more rows, at the cost of more calls
_ANCHORS = 128
_SAMPLE = 4096  # rows that anchors are chosen among
_ROUNDING = 1.0 + 1e-6  # covers the float64 roundings of a sum of two square roots


class Product(Protocol):
    """Where the products of picks and blocks are computed, and how exactly."""

    unit: float  # largest relative error of a number as the multiplier reads it
    tiny: float  # largest absolute one of a number within -1 ... 1 that underflows
    concurrent: bool  # whether several threads may multiply at once

    def load(self, points: NDArray[np.float32]) -> Any:
        """Bring a block's points (n, D) to where products are computed."""

    def multiply(self, block: Any, picks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Products (n, k) of a loaded block with picks (k, D), sums in float32; a new array."""


class HostProduct:
    """NumPy's BLAS in float32: the fastest of those at hand for these shapes (README)."""

    unit = 2.0**-24
    tiny = 2.0**-126
    concurrent = True

    def load(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Leave the points where they are."""
        return points

    def multiply(
        self, block: NDArray[np.float32], picks: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Products (n, k)."""
        product: NDArray[np.float32] = block @ picks.T
        return product


@dataclass(eq=False)
class PatchCloud:
    """Features as they came, for measuring, and what bounds their distances.

    Points are (features - centre) * scale, within -8 ... 8 and mostly -1 ... 1: the centre limits
    cancellation, the power of two limits overflow, and neither moves a measured distance. All
    squared distances are in units of 1/scale².
    """

    features: NDArray[np.float32]  # (P, D)
    centre: NDArray[np.float32]  # (D,), times scale
    scale: np.float32
    margin: float  # a bound's error is at most margin * (sum of the two squared norms) + tiny
    tiny: float
    product: Product
    norms: NDArray[np.float32] = field(init=False)  # (P,), squared, of the points
    clusters: "_Clusters" = field(init=False)
    loaded: list[Any] = field(default_factory=list)  # the blocks' points, where they are kept

    @classmethod
    def of(
        cls,
        features: NDArray[np.float32],
        *,
        memory_budget_bytes: int | None = None,
        product: Product | None = None,
    ) -> "PatchCloud":
        """Check the features and sort them into clusters.

        Args:
            features: (P, D), finite; left as they are. May be mapped from a file.
            memory_budget_bytes: One more float32 copy is held only within it; without one, about 70
                bytes a row and 50 MB are. No limit by default.
            product: Where products are computed; the host by default.

        Raises:
            ValueError: `features` is not finite (P, D).
        """
        if features.ndim != 2 or features.dtype != np.float32 or 0 in features.shape:
            got = f"{features.dtype} {features.shape}"
            raise ValueError(f"PatchCloud: expected features float32 (P, D), got {got}")
        features = np.asarray(features)  # memory-mapped arrays are slow to index
        product = product or HostProduct()
        centre, scale = _centre_and_scale(features)
        dim = features.shape[1]
        # Reading errors of both factors, summing errors of two norms and one product.
        margin = 2.0 * (dim + 8) * 2.0**-24 + 4.0 * product.unit
        cloud = cls(features, centre, scale, margin, 8.0 * dim * product.tiny, product)
        cloud.norms, cloud.clusters = _sort(cloud)
        if memory_budget_bytes is None or features.nbytes <= memory_budget_bytes:
            cloud.loaded = [product.load(cloud.points(rows)) for rows in cloud.clusters.blocks]
        return cloud

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape and features."""
        digest = hashlib.sha256(f"{self.features.shape}".encode())
        step = max(1, _PART // self.features.shape[1])
        for start in range(0, len(self.features), step):
            part = np.ascontiguousarray(self.features[start : start + step], dtype="<f4")
            digest.update(part.data)
        return digest.hexdigest()

    def floors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Squared norms less their share of the margin: floors - 2·product bound from below."""
        floors: NDArray[np.float32] = self.norms[rows] * np.float32(1.0 - self.margin)
        floors -= np.float32(self.tiny)
        return floors

    def points(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Centred and scaled float32 (n, D) of some rows."""
        points: NDArray[np.float32] = self.features[rows]
        points *= self.scale
        points -= self.centre
        return points

    def measure(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the squared distance of each pair (rows[i], others[i]) by direct difference."""
        squared_distances = np.empty(len(rows), dtype=np.float64)
        for start in range(0, len(rows), _PAIRS):
            part = slice(start, start + _PAIRS)
            difference = np.subtract(
                self.features[rows[part]], self.features[others[part]], dtype=np.float64
            )
            squared_distances[part] = np.einsum("ij,ij->i", difference, difference)
        squared_distances *= float(self.scale) ** 2
        return squared_distances

    def blocks_to_lower(
        self, picks: NDArray[np.int64], upper: NDArray[np.float64]
    ) -> Iterator["Block"]:
        """Find the blocks of rows that picks may come nearer to than `upper`.

        Args:
            picks: Rows, (k,).
            upper: (P,) squared distance below which a pick matters to a row; negative: never.
        """
        points = self.points(picks)
        clusters = self.clusters
        squares = self.points(clusters.anchors) @ points.T
        squares *= np.float32(-2.0)
        squares += self.floors(picks)
        squares += self.floors(clusters.anchors)[:, None]
        away = np.sqrt(np.maximum(squares, np.float32(0.0)))  # at least, anchor to pick
        points *= np.float32(-2.0)
        for number, reach in enumerate(clusters.reach(upper)):
            some = np.flatnonzero(away[clusters.anchor_of_block[number]] < reach)
            if len(some):
                yield Block(number, clusters.blocks[number], picks, points, some)

    def products(self, block: "Block") -> NDArray[np.float32]:
        """-2 · products (n, k) of a block's points with its picks; a new array."""
        if self.loaded:
            loaded = self.loaded[block.number]
        else:
            loaded = self.product.load(self.points(block.rows))
        return self.product.multiply(loaded, block.points[block.some])


@dataclass(frozen=True, eq=False)
class Block:
    """Rows near one another, and the picks that may matter to them."""

    number: int
    rows: NDArray[np.int64]  # (n,)
    picks: NDArray[np.int64]  # all of a batch, shared by its blocks like their points
    points: NDArray[np.float32]  # -2 · those of the picks
    some: NDArray[np.int64]  # (k,) places of the picks that matter


@dataclass(frozen=True, eq=False)
class _Clusters:
    """Blocks of rows, which anchor each lies around, and how far from it its rows lie."""

    blocks: list[NDArray[np.int64]]
    order: NDArray[np.int64]  # (P,) rows, block after block
    starts: NDArray[np.int64]  # of the blocks in `order`
    radii: NDArray[np.float64]  # (P,) in that order: distance to the anchor, at most
    anchors: NDArray[np.int64]  # rows
    anchor_of_block: NDArray[np.int64]  # its place among the anchors

    def reach(self, upper: NDArray[np.float64]) -> NDArray[np.float64]:
        """How near to the anchor a pick must be to matter to any row of a block; (blocks,)."""
        squares = upper[self.order]
        reach = np.sqrt(np.maximum(squares, 0.0))
        reach += self.radii
        reach *= _ROUNDING
        reach[squares < 0.0] = NEVER
        furthest: NDArray[np.float64] = np.maximum.reduceat(reach, self.starts)
        return furthest


def _sort(cloud: PatchCloud) -> tuple[NDArray[np.float32], _Clusters]:
    """Squared norms of all points, and the rows by the anchor they are nearest to."""
    rows, dim = cloud.features.shape
    anchors = _choose_anchors(cloud)
    points = cloud.points(anchors)
    anchor_norms = np.einsum("ij,ij->i", points, points)
    points *= np.float32(-2.0)
    norms, squares = np.empty(rows, np.float32), np.empty(rows)
    nearest = np.empty(rows, np.int64)
    step = max(1, _PART // dim)
    for start in range(0, rows, step):
        part = np.arange(start, min(rows, start + step))
        block = cloud.points(part)
        norms[part] = np.einsum("ij,ij->i", block, block)
        products = block @ points.T
        products += anchor_norms
        nearest[part] = products.argmin(axis=1)
        squares[part] = products.min(axis=1)
    squares += norms
    squares += cloud.margin * (norms + anchor_norms[nearest]) + cloud.tiny
    radii = np.sqrt(np.maximum(squares, 0.0))
    order = np.lexsort((radii, nearest))
    bounds = np.flatnonzero(np.diff(nearest[order], prepend=-1))
    parts = [
        np.linspace(first, end, -(-(end - first) // _BLOCK_ROWS), endpoint=False, dtype=np.int64)
        for first, end in zip(bounds, [*bounds[1:], rows], strict=True)
    ]
    starts = np.concatenate(parts)
    blocks = np.split(order, starts[1:])
    return norms, _Clusters(blocks, order, starts, radii[order], anchors, nearest[order[starts]])


def _choose_anchors(cloud: PatchCloud) -> NDArray[np.int64]:
    """Rows spread over the cloud: a rough greedy k-centre of every n-th row."""
    rows = len(cloud.features)
    sample = np.arange(0, rows, -(-rows // _SAMPLE))
    points = cloud.points(sample)
    norms = np.einsum("ij,ij->i", points, points)
    gaps = np.full(len(sample), np.inf, np.float32)
    anchors = [0]
    while len(anchors) < min(_ANCHORS, rows // _BLOCK_ROWS):
        last = anchors[-1]
        np.minimum(gaps, norms + norms[last] - 2.0 * (points @ points[last]), out=gaps)
        anchors.append(int(gaps.argmax()))
    return sample[anchors]


def _centre_and_scale(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], np.float32]:
    """A middle of the features, times a power of two that brings them to about -1 ... 1."""
    step = max(1, _PART // features.shape[1])
    parts = [features[start : start + step] for start in range(0, len(features), step)]
    low = np.min([part.min(axis=0) for part in parts], axis=0).astype(np.float64)
    high = np.max([part.max(axis=0) for part in parts], axis=0).astype(np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError(
            "PatchCloud: expected finite features, got NaN or infinity; check the backbone"
        )
    # The mean of some rows is middle enough.
    centre = features[:: -(-len(features) // 4096)].mean(axis=0, dtype=np.float64)
    radius = float(np.maximum(high - centre, centre - low).max())
    # float32 has no larger powers, and scaling the features must not overflow either.
    room = 126 - math.frexp(float(np.maximum(high, -low).max()))[1]
    exponent = max(-126, min(126, room, -math.frexp(radius)[1]))
    scale = np.float32(2.0**exponent)
    return (centre * float(scale)).astype(np.float32), scale
