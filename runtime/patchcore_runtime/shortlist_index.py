"""Exact search by way of a shortlist: layers of some pictures -> nearest distance and bank row.

Products of vectors cut short bound the true ones from above and below (shortlist_bound.py,
shortlist_graph.py), in a fraction of the time. A row whose upper bound stays below the highest
lower bound cannot be the nearest; the few others are measured in float32 by their differences. So
the winners are those of the exact search, proven patch by patch, whatever was cut off.
"""

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.errors import ProviderError
from patchcore_runtime.index import NearestIndex
from patchcore_runtime.shortlist_axes import split_bank
from patchcore_runtime.shortlist_bound import LARGEST, Rest, split_rows, squares
from patchcore_runtime.shortlist_graph import (
    Rows,
    blocks_of,
    bounds_graph,
    patch_fields,
    patches_graph,
    product_graph,
)
from patchcore_runtime.manifest import Features
from patchcore_runtime.memory_bank import MemoryBank
from patchcore_runtime.search_graph import BLOCK_ROWS, GROUP
from patchcore_runtime.session import open_own_graph

_BLOCKS = 8  # of one graph: rounding a bank takes memory for its copies of these
_PAIRS_AT_ONCE = 256  # their differences stay in cache
_TERMS = 64  # of a sum that must not be clipped
_MOST_PAIRS = 64  # per patch; beyond, int8 does not pay and float32 takes over

Vectors = NDArray[np.float32]


class ShortlistIndex:
    """What is left of a bank when cut short, in memory; safe to share between threads."""

    def __init__(
        self,
        bank: MemoryBank,
        features: Features,
        exact: NearestIndex,
        *,
        rest: Rest = Rest.LENGTH_ALONE,
        threads: int | None = None,
    ) -> None:
        """Cut the bank short, which reads all of it.

        Args:
            bank: The rows.
            features: Shapes of the layers and how layer3 is brought to layer2's grid.
            exact: Takes over where too many rows are left in doubt.
            rest: What is kept of a row beside its principal axes.
            threads: Threads of one operator; `None` takes the cores this process may use.
        """
        self._bank = np.asarray(bank.layer2), np.asarray(bank.layer3)
        self._exact = exact
        self._grid = features.layer2.height, features.layer2.width
        self._fields = patch_fields(rest)
        splits = split_bank(bank, rest)
        self._shelves, largest = [], 0.0
        blocks = blocks_of(bank.rows)
        for start in range(0, len(blocks), _BLOCKS):
            rows = [
                Rows(
                    layer2=split_rows(bank.layer2[block], splits[0]),
                    layer3=split_rows(bank.layer3[block], splits[1]),
                )
                for block in blocks[start : start + _BLOCKS]
            ]
            largest = max(largest, *(float(block.squares.max()) for block in rows))
            shelf = bounds_graph(features, rows, rest)
            self._shelves.append(open_own_graph(shelf, threads=threads))
        patches = patches_graph(features, splits, rest, largest)
        self._patches = open_own_graph(patches, threads=threads)

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

    def _search(self, layer2: Vectors, layer3: Vectors) -> tuple[Vectors, NDArray[np.int64]]:
        """One picture, (1, C, h, w)."""
        names = ["patches2", "patches3", *self._fields]
        outputs = self._patches.run(names, {"layer2": layer2, "layer3": layer3})
        vectors, fields = outputs[:2], dict(zip(self._fields, outputs[2:], strict=True))
        candidates = self._candidates(fields)
        if candidates is None:
            return self._exact.nearest(layer2, layer3)
        patches, rows = candidates
        nearest, winners = self._nearest_of(vectors, patches, rows)
        shape = (1, *self._grid)
        return np.sqrt(nearest).reshape(shape), winners.reshape(shape)

    def _candidates(
        self, fields: dict[str, NDArray[np.generic]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Pairs of a patch and a row that may be its nearest; None: too many."""
        reached = np.full((len(fields["slack"]), 1), -np.inf, np.float32)
        most = _MOST_PAIRS * len(reached)
        found = []
        for number, shelf in enumerate(self._shelves):
            groups, bounds, reached = shelf.run(
                ["groups", "bounds", "reached"], {**fields, "least": reached}
            )
            if len(groups) > most:
                return None
            groups[:, 1] += number * _BLOCKS * BLOCK_ROWS // GROUP
            found.append((groups, bounds))
        groups, bounds = (np.concatenate(part) for part in zip(*found, strict=True))
        pairs, columns = np.nonzero(bounds >= reached[groups[:, 0]])
        if len(pairs) > most:
            return None
        patches, numbers = groups[pairs].T
        return patches, numbers * GROUP + columns

    def _nearest_of(
        self, vectors: list[Vectors], patches: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> tuple[Vectors, NDArray[np.int64]]:
        """Squared distance and row of each patch's nearest pair, of equally near ones the first."""
        measured = np.empty(len(patches), np.float32)
        for start in range(0, len(patches), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            measured[part] = sum(
                squares(bank[rows[part]].astype(np.float32, copy=False) - own[patches[part]])
                for own, bank in zip(vectors, self._bank, strict=True)
            )
        order = np.lexsort((rows, measured, patches))
        firsts = order[np.flatnonzero(np.diff(patches[order], prepend=-1))]
        nearest = np.full(len(vectors[0]), np.inf, np.float32)
        winners = np.zeros(len(nearest), np.int64)
        nearest[patches[firsts]] = measured[firsts]
        winners[patches[firsts]] = rows[firsts]
        return nearest, winners


def finest_rest() -> Rest:
    """The bytes whose sums are right here: some processors add products in 16 bits and clip them.

    Raises:
        ProviderError: even those of 7 bits are clipped.
    """
    for rest in (Rest.EIGHT_BITS, Rest.SEVEN_BITS):
        products = open_own_graph(product_graph(_TERMS, rest), threads=1)
        extreme = np.full((4, _TERMS), rest.zero + rest.value, np.uint8)
        (sums,) = products.run(["sums"], {"bytes": extreme})
        if (sums == _TERMS * rest.value * LARGEST).all():
            return rest
    raise ProviderError(
        "search int8: this processor clips sums of int8 products; use --search exact"
    )
