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
from patchcore_runtime.shortlist import Shortlist
from patchcore_runtime.shortlist_axes import split_bank
from patchcore_runtime.shortlist_bound import LARGEST, Rest, split_rows
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
        self._blocks, largest = [], 0.0
        for block in blocks_of(bank.rows):
            rows = Rows(
                layer2=split_rows(bank.layer2[block], splits[0]),
                layer3=split_rows(bank.layer3[block], splits[1]),
            )
            largest = max(largest, float(rows.squares.max()))
            bounds = bounds_graph(features, rows, rest)
            self._blocks.append(open_own_graph(bounds, threads=threads))
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
        names = ["patches2", "patches3", "length", *self._fields]
        fine, coarse, length, *others = self._patches.run(
            names, {"layer2": layer2, "layer3": layer3}
        )
        fields = dict(zip(self._fields, others, strict=True))
        slack = fields["slack"][:, 0]
        shortlist = Shortlist(self._bank, (fine, coarse), length[:, 0] ** 2, slack)
        for number, block in enumerate(self._blocks):
            groups, bounds, reached = block.run(
                ["groups", "bounds", "reached"], {**fields, "least": shortlist.least[:, None]}
            )
            pairs, columns = np.nonzero(bounds >= reached[groups[:, 0]])
            patches, numbers = groups[pairs].T
            rows = number * BLOCK_ROWS + numbers * GROUP + columns
            shortlist.add(patches, rows, bounds[pairs, columns], reached[:, 0])
            if shortlist.in_doubt > _MOST_PAIRS * len(slack):
                return self._exact.nearest(layer2, layer3)
        shortlist.settle()
        shape = (1, *self._grid)
        return np.sqrt(shortlist.nearest).reshape(shape), shortlist.winners.reshape(shape)


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
