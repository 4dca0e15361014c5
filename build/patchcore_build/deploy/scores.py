"""From distances of tiles to an image's score and map, as nodes of a graph.

It computes what `patchcore_runtime.scoring.patch_scorer` computes, for a batch of images: blend the
tiles, keep the region, upsample and smooth; the peak among the patches that each tile owns, and the
rule of the image score. Tiles come tile by tile: the batch of the search is (T·B).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore_build.deploy.parts import Parts
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.scoring.rules import anomaly_map, map_matrix


@dataclass(frozen=True, kw_only=True)
class Searched:
    """Names of what the search gives for T·B tiles."""

    distances: str  # (T·B, h, w)
    rows: str  # (T·B, h, w)
    queries: tuple[str, ...]  # of each layer, on the patch grid: (T·B·P, C)
    bank: tuple[str, ...]  # of each layer: (M, C), float32


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Names of the results."""

    score: str  # (B,)
    anomaly_map: str  # (B, H, W)
    distances: str  # (B, h, w) of the whole input


class ScoreNodes:
    """The nodes of one artifact.

    Args:
        parts: The graph.
        artifact: Its settings, region and neighbours.
    """

    def __init__(self, parts: Parts, artifact: Artifact) -> None:
        self._parts = parts
        self._artifact = artifact
        self._scoring = artifact.manifest.scoring
        self._grid = artifact.manifest.grid
        self._region = artifact.region
        self._tiles = self._grid.tiles
        height, width = artifact.manifest.layout.grid
        self._cells = (height, width)  # of a tile

    def add(self, found: Searched) -> Scores:
        """Add all nodes."""
        parts, (height, width) = self._parts, self._cells
        shape = parts.numbers(self._tiles, -1, height, width)
        tiles = parts.node("Reshape", found.distances, shape)
        distances = self._blended(tiles)
        if self._region is not None:
            inside = parts.constant(self._region.patches.astype(np.float32))
            distances = parts.node("Mul", distances, inside)
        squared = self._scoring.distance == "squared"
        levels = parts.node("Mul", distances, distances) if squared else distances
        anomaly_map = self._map(levels)
        return Scores(
            score=self._score(found, anomaly_map),
            anomaly_map=anomaly_map,
            distances=distances,
        )

    def _blended(self, tiles: str) -> str:
        """Add the weighted mean of tiles (T, B, h, w) on the whole grid (B, h, w)."""
        parts, grid = self._parts, self._grid
        if self._tiles == 1:
            return parts.node("Squeeze", tiles, parts.numbers(0))
        weights, total = grid.weights
        blended = ""
        for tile, (top, left) in enumerate(grid.corners_px):
            place = parts.constant(np.array(tile, np.int64))
            own = parts.node("Gather", tiles, place, axis=0)
            weighted = parts.node("Mul", own, parts.constant(weights.astype(np.float32)))
            y, x = top // grid.patch_px, left // grid.patch_px
            after = (grid.cells[0] - y - self._cells[0], grid.cells[1] - x - self._cells[1])
            pads = parts.numbers(0, y, x, 0, *after)
            padded = parts.node("Pad", weighted, pads)
            blended = parts.node("Add", blended, padded) if blended else padded
        return parts.node("Div", blended, parts.constant(total.astype(np.float32)))

    def _map(self, levels: str) -> str:
        """Add the upsampled and smoothed map (B, H, W)."""
        parts, (height, width) = self._parts, self._grid.cells
        side = self._grid.patch_px
        down = map_matrix(side * height, height, self._scoring)
        across = map_matrix(side * width, width, self._scoring)
        rows = parts.node("MatMul", parts.constant(down), levels)
        smooth = parts.node("MatMul", rows, parts.constant(across.T))
        if self._region is None:
            return smooth
        weights = anomaly_map(self._region.patches.astype(np.float32), down, across)
        inside = self._region.pixels
        inverse = np.divide(1, weights, out=np.zeros_like(weights), where=inside)
        return parts.node("Mul", smooth, parts.constant(inverse))

    def _score(self, found: Searched, anomaly_map: str) -> str:
        """Add the image score, (B,)."""
        parts, kind = self._parts, self._scoring.image_score
        if kind == "map":
            return self._largest(parts.node("Reshape", anomaly_map, parts.numbers(0, -1)))
        per_tile = self._cells[0] * self._cells[1]
        listed = self._by_image(found.distances)  # (B, T·P)
        owned = parts.constant(self._owned())
        masked = parts.node("Where", owned, listed, parts.constant(np.float32(-1)))
        peak, place = parts.nodes("TopK", masked, parts.numbers(1), outputs=2, axis=1)  # (B, 1)
        distance = parts.node("Squeeze", peak, parts.numbers(1))
        if kind == "max":
            squared = self._scoring.distance == "squared"
            return parts.node("Mul", distance, distance) if squared else distance
        patch = self._patch_numbers(place, per_tile)
        if kind == "paper":
            rows = parts.node("GatherElements", self._by_image(found.rows), place, axis=1)
            return self._paper(
                distance, parts.node("Squeeze", rows, parts.numbers(1)), patch, found
            )
        return self._modelzoo(patch, found)

    def _by_image(self, values: str) -> str:
        """Bring (T·B, h, w) to (B, T·P)."""
        parts, (height, width) = self._parts, self._cells
        tiles = parts.node("Reshape", values, parts.numbers(self._tiles, -1, height * width))
        images = parts.node("Transpose", tiles, perm=[1, 0, 2])
        return parts.node("Reshape", images, parts.numbers(-1, self._tiles * height * width))

    def _owned(self) -> NDArray[np.bool_]:
        """Return the patches that count of each tile, (1, T·P)."""
        counts = []
        for tile in range(self._tiles):
            owned = self._grid.owned(tile)
            if self._region is not None:
                owned = owned & self._grid.piece(self._region.patches, tile)
            counts.append(owned.ravel())
        return np.concatenate(counts)[None]

    def _patch_numbers(self, place: str, per_tile: int) -> str:
        """Add the number of each image's peak among the T·B·P queries, (B,)."""
        parts = self._parts
        size = parts.constant(np.array(per_tile, np.int64))
        place = parts.node("Squeeze", place, parts.numbers(1))
        tile = parts.node("Div", place, size)
        inside = parts.node("Sub", place, parts.node("Mul", tile, size))
        count = parts.node("Squeeze", parts.node("Shape", place), parts.numbers(0))
        zero, one = (parts.constant(np.array(number, np.int64)) for number in (0, 1))
        images = parts.node("Range", zero, count, one)
        own = parts.node("Add", parts.node("Mul", tile, count), images)
        return parts.node("Add", parts.node("Mul", own, size), inside)

    def _squares(self, patch: str, found: Searched, rows: str | None) -> str:
        """Add squared distances of each peak to some rows (B, K), or to all of them (B, M)."""
        parts, total = self._parts, ""
        for queries, bank in zip(found.queries, found.bank, strict=True):
            query = parts.node("Gather", queries, patch, axis=0)
            query = parts.node("Unsqueeze", query, parts.numbers(1))  # (B, 1, C)
            if rows is None:
                there = parts.node("Unsqueeze", bank, parts.numbers(0))  # (1, M, C)
            else:
                there = parts.node("Gather", bank, rows, axis=0)  # (B, K, C)
            gap = parts.node("Sub", there, query)
            square = parts.node("Mul", gap, gap)
            part = parts.node("ReduceSum", square, parts.numbers(2), keepdims=0)
            total = parts.node("Add", total, part) if total else part
        return total

    def _paper(self, distance: str, row: str, patch: str, found: Searched) -> str:
        """Add eq. 7; with one row the distance itself."""
        parts = self._parts
        table = self._artifact.memory_bank.neighbours.astype(np.int64)
        if table.shape[1] < 2:
            return distance
        rows = parts.node("Gather", parts.constant(table), row, axis=0)  # (B, K)
        near = parts.node("Sqrt", self._squares(patch, found, rows))
        largest = parts.node("Max", distance, self._largest(near))
        own = parts.node("Exp", parts.node("Sub", distance, largest))
        column = parts.node("Unsqueeze", largest, parts.numbers(1))
        others = parts.node("Exp", parts.node("Sub", near, column))
        total = parts.node("ReduceSum", others, parts.numbers(1), keepdims=0)
        share = parts.node("Div", own, parts.node("Max", own, total))
        weight = parts.node("Sub", parts.constant(np.float32(1)), share)
        return parts.node("Mul", weight, distance)

    def _modelzoo(self, patch: str, found: Searched) -> str:
        """Add the softmax over the K nearest squared distances; with one row its square itself."""
        parts = self._parts
        count = self._artifact.memory_bank.neighbours.shape[1]
        squares = self._squares(patch, found, None)
        near, _ = parts.nodes(
            "TopK", squares, parts.numbers(count), outputs=2, axis=1, largest=0, sorted=1
        )
        nearest = parts.node(
            "Squeeze",
            parts.node("Gather", near, parts.numbers(0), axis=1),
            parts.numbers(1),
        )
        if count < 2:
            return nearest
        column = parts.node("Unsqueeze", self._largest(near), parts.numbers(1))
        others = parts.node("Exp", parts.node("Sub", near, column))
        total = parts.node("ReduceSum", others, parts.numbers(1), keepdims=0)
        one = parts.constant(np.float32(1))
        weight = parts.node("Sub", one, parts.node("Div", one, total))
        return parts.node("Mul", weight, nearest)

    def _largest(self, values: str) -> str:
        """Add the maximum of each row, (B, K) -> (B,)."""
        parts = self._parts
        top, _ = parts.nodes("TopK", values, parts.numbers(1), outputs=2, axis=1)
        return parts.node("Squeeze", top, parts.numbers(1))
