"""Exact search by way of int8: layer2, layer3 of some pictures -> nearest distance and bank row.

Integer products with a bank rounded to int8 cost a third of the float32 ones and bound them from
above (int8_bound.py). A row whose bound stays below the best distance found so far cannot be
nearer; the few others, about ten per patch, are measured in float32 by their differences. So the
winners are those of the exact search, proven patch by patch, whatever the rounding does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.errors import ProviderError
from patchcore_runtime.index import NearestIndex
from patchcore_runtime.int8_bound import RoundedRows, round_patches, round_rows
from patchcore_runtime.manifest import Features, Upsampling
from patchcore_runtime.memory_bank import MemoryBank
from patchcore_runtime.session import open_session

_BLOCK_ROWS = 2048
_PAIRS_AT_ONCE = 256  # their differences stay in cache
_MOST_PAIRS = 64  # per patch; beyond, int8 does not pay and float32 takes over
_SLACK = 1e-5  # of |q|² + |m|²: more than float32 sums can be off

Grid = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """Some rows of the bank, the bank's mean taken off."""

    start: int
    layer2: RoundedRows
    layer3: RoundedRows
    half_norms: NDArray[np.float32]  # -|m|²/2, (R,)

    @property
    def size(self) -> int:
        return len(self.half_norms)


class Int8Index:
    """A bank rounded to int8 in memory, a quarter of its size; safe to share between threads."""

    def __init__(
        self,
        bank: MemoryBank,
        features: Features,
        exact: NearestIndex,
        *,
        threads: int | None = None,
    ) -> None:
        """Round the bank, which reads all of it.

        Args:
            bank: The rows.
            features: Shapes of the layers and how layer3 is brought to layer2's grid.
            exact: Takes over where rounding leaves too many rows in doubt.
            threads: Threads of one operator; `None` takes the cores this process may use.

        Raises:
            ProviderError: int8 products are not exact on this processor.
        """
        self._layer2, self._layer3 = np.asarray(bank.layer2), np.asarray(bank.layer3)
        self._exact = exact
        self._mode = features.layer3_upsampling
        path = Path(__file__).with_name(f"int8_{self._mode}.onnx")
        self._session = open_session(path, threads=threads)
        self._refuse_saturation()
        self._mean2 = self._layer2.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._mean3 = self._layer3.mean(axis=0, dtype=np.float64).astype(np.float32)
        starts = range(0, bank.rows, _BLOCK_ROWS)
        self._blocks = [self._round(start) for start in starts]
        self._largest = max(-2 * float(block.half_norms.min()) for block in self._blocks)  # |m|²

    def nearest(
        self, layer2: NDArray[np.float32], layer3: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest row of every patch.

        Args:
            layer2: (B, C2, h, w).
            layer3: (B, C3, h/2, w/2).

        Returns:
            Euclidean distances (B, h, w), from the differences of the winning pairs, and the
            winning rows (B, h, w); of equal distances the first row.
        """
        pictures = zip(layer2, layer3, strict=True)
        found = [self._search(fine[None], coarse[None]) for fine, coarse in pictures]
        distances, rows = zip(*found, strict=True)
        return np.concatenate(distances), np.concatenate(rows)

    def _search(self, layer2: Grid, layer3: Grid) -> tuple[Grid, NDArray[np.int64]]:
        """One picture, (1, C, h, w)."""
        fine2, coarse3 = np.moveaxis(layer2[0], 0, -1), np.moveaxis(layer3[0], 0, -1)
        height, width, channels2 = fine2.shape
        patches2 = np.ascontiguousarray(fine2).reshape(-1, channels2)
        patches3 = upsample(np.ascontiguousarray(coarse3), self._mode)
        patches3 = patches3.reshape(len(patches2), -1)
        best = _Best(patches2, patches3, self._layer2, self._layer3)
        lengths = _squares(patches2 - self._mean2) + _squares(patches3 - self._mean3)
        slack = _SLACK * (lengths + self._largest)
        for block, bounds, largest, columns in self._bounds(patches2 - self._mean2, coarse3):
            likely = np.flatnonzero(largest >= (lengths - best.squares) / 2 - slack)
            best.try_pairs(likely, block.start + columns[likely])
            doubtful = bounds >= ((lengths - best.squares) / 2 - slack)[:, None]
            doubtful[likely, columns[likely]] = False
            patches, others = divmod(np.flatnonzero(doubtful), block.size)
            if len(patches) > _MOST_PAIRS * len(lengths):
                return self._exact.nearest(layer2, layer3)
            best.try_pairs(patches, block.start + others)
        shape = (1, height, width)
        return np.sqrt(best.squares).reshape(shape), best.rows.reshape(shape)

    def _bounds(
        self, patches2: Grid, coarse3: Grid
    ) -> Iterator[tuple[_Block, Grid, Grid, NDArray[np.int64]]]:
        """Each block with its bounds of q·m - |m|²/2, the largest of each patch and its column."""
        left2 = round_patches(patches2)
        left3 = round_patches(coarse3.reshape(-1, coarse3.shape[-1]) - self._mean3)
        for block in self._blocks:
            bias = block.half_norms + np.float32(left2.error) * block.layer2.lengths
            bias += np.float32(left3.error) * block.layer3.lengths
            feeds = {
                "q2": left2.rows,
                "q3": left3.rows,
                "q2_scale": np.array(left2.scale),
                "q3_scale": np.array(left3.scale),
                "bias": bias,
                **_bank_feeds(block, coarse3.shape[:2]),
            }
            names = ["bounds", "largest", "column"]
            bounds, largest, columns = self._session.run(names, feeds)
            yield block, bounds, largest[:, 0], columns[:, 0]

    def _round(self, start: int) -> _Block:
        part = slice(start, start + _BLOCK_ROWS)
        rows2, rows3 = self._layer2[part] - self._mean2, self._layer3[part] - self._mean3
        return _Block(
            start=start,
            layer2=round_rows(rows2),
            layer3=round_rows(rows3),
            half_norms=np.float32(-0.5) * (_squares(rows2) + _squares(rows3)),
        )

    def _refuse_saturation(self) -> None:
        """Some processors add int8 products in 16 bits and clip them: then nothing is proven."""
        width = 64
        feeds = {
            "q2": np.full((4, width), 255, np.uint8),
            "q3": np.full((1, width), 255, np.uint8),
            "m2": np.full((width, 32), 127, np.int8),
            "m3": np.full((width, 32), 127, np.int8),
            "bias": np.zeros(32, np.float32),
            "grid3": np.array([1, 1, 1, 32]),
            **{name: np.ones(32, np.float32) for name in ("m2_scales", "m3_scales")},
            **{name: np.array(1, np.float32) for name in ("q2_scale", "q3_scale")},
        }
        (bounds,) = self._session.run(["bounds"], feeds)
        if (bounds != 2 * width * 127 * 127).any():
            raise ProviderError(
                "search int8: this processor clips sums of int8 products; use --search exact"
            )


class _Best:
    """The nearest row of each patch so far, by measured distances."""

    def __init__(self, patches2: Grid, patches3: Grid, rows2: Grid, rows3: Grid) -> None:
        self.squares = np.full(len(patches2), np.inf, np.float32)
        self.rows = np.zeros(len(patches2), np.int64)
        self._patches = patches2, patches3
        self._bank = rows2, rows3

    def try_pairs(self, patches: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Measure pairs of a patch and a row; the nearer wins, of equally near ones the first."""
        if not len(patches):
            return
        squares = np.empty(len(patches), np.float32)
        for start in range(0, len(patches), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            squares[part] = sum(
                _squares(bank[rows[part]].astype(np.float32, copy=False) - own[patches[part]])
                for own, bank in zip(self._patches, self._bank, strict=True)
            )
        order = np.lexsort((rows, squares, patches))
        firsts = order[np.flatnonzero(np.diff(patches[order], prepend=-1))]
        owners = patches[firsts]
        near, far = squares[firsts], self.squares[owners]
        wins = (near < far) | ((near == far) & (rows[firsts] < self.rows[owners]))
        self.squares[owners[wins]] = near[wins]
        self.rows[owners[wins]] = rows[firsts][wins]


def upsample(coarse: Grid, mode: Upsampling) -> Grid:
    """U: (h/2, w/2, C) -> (h, w, C), half-pixel centres, the outermost value held."""
    for axis in (0, 1):
        before, after = coarse, coarse
        if mode == "bilinear":
            first, last = coarse.take([0], axis), coarse.take([-1], axis)
            inner = coarse.take(range(coarse.shape[axis] - 1), axis)
            rest = coarse.take(range(1, coarse.shape[axis]), axis)
            three_quarters = np.float32(0.75) * coarse
            before = np.float32(0.25) * np.concatenate([first, inner], axis) + three_quarters
            after = three_quarters + np.float32(0.25) * np.concatenate([rest, last], axis)
        shape = list(coarse.shape)
        shape[axis] *= 2
        coarse = np.stack([before, after], axis=axis + 1).reshape(shape)
    return coarse


def _bank_feeds(block: _Block, grid: tuple[int, ...]) -> dict[str, NDArray[np.generic]]:
    return {
        "m2": block.layer2.columns,
        "m3": block.layer3.columns,
        "m2_scales": block.layer2.scales,
        "m3_scales": block.layer3.scales,
        "grid3": np.array([1, *grid, block.size]),
    }


def _squares(rows: Grid) -> Grid:
    squares: Grid = np.einsum("ij,ij->i", rows, rows)
    return squares
