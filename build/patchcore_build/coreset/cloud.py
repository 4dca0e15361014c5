"""Patch features prepared for many distance bounds: centred, scaled, and sorted into clusters.

features (P, D) -> blocks of rows that lie near each other, bounds of distances, exact distances.
A float32 product only bounds a squared distance, with a proven margin (Higham 2002, section 3.1);
`measure` computes it in float64 by direct difference. For a pick c, a row x and the anchor a of the
row's block, d(c, x) >= d(c, a) - d(a, x); so a pick far from an anchor cannot matter to its block.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.coreset.clusters import Clusters, rows_at_once, sort_into_clusters
from patchcore_build.coreset.product import HostProduct, Product

_PAIRS = 2048  # pairs measured at once in float64
_MEAN_ROWS = 4096  # rows whose mean is the centre


@dataclass(eq=False)
class PatchCloud:
    """The original features, to measure distances, and scaled points, to bound them.

    Points are features * scale - centre, within -8 ... 8 and mostly within -1 ... 1. Subtracting
    the centre limits cancellation, and the scale, a power of two, limits overflow; neither changes
    a measured distance. All squared distances are in units of 1/scale².
    """

    features: NDArray[np.float32]  # (P, D)
    centre: NDArray[np.float32]  # (D,), already multiplied with scale
    scale: np.float32
    margin: float  # a bound's error is at most margin * (sum of the two squared norms) + tiny
    tiny: float
    product: Product
    norms: NDArray[np.float32] = field(init=False)  # (P,), squared, of the points
    clusters: Clusters = field(init=False)
    loaded: list[Any] = field(default_factory=list)  # points of each block, if they are kept

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
            features: (P, D), finite; never changed. They may be mapped from a file.
            memory_budget_bytes: If a float32 copy of the features fits into this budget, the cloud
                keeps one. Otherwise it takes about 70 bytes a row and 50 MB. No limit by default.
            product: Computes products; the host by default.

        Raises:
            ValueError: `features` is not finite (P, D).
        """
        if features.ndim != 2 or features.dtype != np.float32 or 0 in features.shape:
            got = f"{features.dtype} {features.shape}"
            raise ValueError(f"PatchCloud: expected features float32 (P, D), got {got}")
        features = np.asarray(features)  # indexing a np.memmap is slow
        product = product or HostProduct()
        centre, scale = _centre_and_scale(features)
        dim = features.shape[1]
        # Rounding errors of both factors, and of the sums in two norms and one product.
        margin = 2.0 * (dim + 8) * 2.0**-24 + 4.0 * product.unit
        cloud = cls(features, centre, scale, margin, 8.0 * dim * product.tiny, product)
        cloud.norms, cloud.clusters = sort_into_clusters(
            cloud.points, (len(features), dim), margin=cloud.margin, tiny=cloud.tiny
        )
        if memory_budget_bytes is None or features.nbytes <= memory_budget_bytes:
            cloud.loaded = [product.load(cloud.points(rows)) for rows in cloud.clusters.blocks]
        return cloud

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the features and their shape."""
        digest = hashlib.sha256(f"{self.features.shape}".encode())
        step = rows_at_once(self.features.shape[1])
        for start in range(0, len(self.features), step):
            part = np.ascontiguousarray(self.features[start : start + step], dtype="<f4")
            digest.update(part.data)
        return digest.hexdigest()

    def floors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Squared norms minus their share of the margin.

        The sum of two floors minus 2·product is a lower bound of a squared distance.
        """
        floors: NDArray[np.float32] = self.norms[rows] * np.float32(1.0 - self.margin)
        floors -= np.float32(self.tiny)
        return floors

    def points(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The points of some rows, features * scale - centre, float32 (n, D)."""
        points: NDArray[np.float32] = self.features[rows]
        points *= self.scale
        points -= self.centre
        return points

    def measure(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute the squared distance of each pair (rows[i], others[i]) by direct difference."""
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
        """Find the blocks with rows that may lie nearer to a pick than `upper`.

        Args:
            picks: Rows, (k,).
            upper: (P,) squared distance below which a pick matters to a row; negative if none does.
        """
        points = self.points(picks)
        clusters = self.clusters
        squares = self.points(clusters.anchors) @ points.T
        squares *= np.float32(-2.0)
        squares += self.floors(picks)
        squares += self.floors(clusters.anchors)[:, None]
        away = np.sqrt(np.maximum(squares, np.float32(0.0)))  # lower bound, anchor to pick
        points *= np.float32(-2.0)
        for number, reach in enumerate(clusters.reach(upper)):
            some = np.flatnonzero(away[clusters.anchor_of_block[number]] < reach)
            if len(some):
                yield Block(number, clusters.blocks[number], picks, points, some)

    def products(self, block: "Block") -> NDArray[np.float32]:
        """-2 · products (n, k) of a block's points with the picks that matter; a new array."""
        if self.loaded:
            loaded = self.loaded[block.number]
        else:
            loaded = self.product.load(self.points(block.rows))
        return self.product.multiply(loaded, block.points[block.some])


@dataclass(frozen=True, eq=False)
class Block:
    """Rows that lie near each other, and the picks that may matter to them."""

    number: int
    rows: NDArray[np.int64]  # (n,)
    picks: NDArray[np.int64]  # all picks of a batch; its blocks share this array and `points`
    points: NDArray[np.float32]  # -2 · points of the picks
    some: NDArray[np.int64]  # (k,) which of the picks matter, as indices into `picks`


def _centre_and_scale(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], np.float32]:
    """The scale, a power of two that brings features to about -1 ... 1, and the scaled centre."""
    step = rows_at_once(features.shape[1])
    parts = [features[start : start + step] for start in range(0, len(features), step)]
    low = np.min([part.min(axis=0) for part in parts], axis=0).astype(np.float64)
    high = np.max([part.max(axis=0) for part in parts], axis=0).astype(np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError(
            "PatchCloud: expected finite features, got NaN or infinity; check the backbone"
        )
    # The mean of a sample is close enough to the middle.
    centre = features[:: -(-len(features) // _MEAN_ROWS)].mean(axis=0, dtype=np.float64)
    radius = float(np.maximum(high - centre, centre - low).max())
    # float32 has no larger powers of two, and the scaled features must not overflow either.
    room = 126 - math.frexp(float(np.maximum(high, -low).max()))[1]
    exponent = max(-126, min(126, room, -math.frexp(radius)[1]))
    scale = np.float32(2.0**exponent)
    return (centre * float(scale)).astype(np.float32), scale
