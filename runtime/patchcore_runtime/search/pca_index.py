"""Exact search along a bank's principal axes: layers -> nearest distance and bank row.

Products along a few axes bound the full products (pca_axes.py), in a fraction of the time. A row
whose bound is below the value of a computed row cannot be the nearest. The distances of the few
other rows are computed in float32 from their differences, highest bound first. The winners are
therefore those of the exact search, proven for each patch, however good the axes are.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.bank.neighbours import SLACK
from patchcore_runtime.engine.session import open_graph
from patchcore_runtime.manifest.features import Layout
from patchcore_runtime.search.exact import Layers, NearestIndex
from patchcore_runtime.search.pca_axes import axes_of
from patchcore_runtime.search.pca_candidates import Shortlist
from patchcore_runtime.search.pca_graphs import GROUP, bounds_graph, patches_graph

_OWN = Path("the search along principal axes")  # of its graphs, for messages
_BLOCK_ROWS = 512  # rows whose products with an image's patches fit into the cache
_FIRST = (2 * GROUP, 512, 2048)  # ends of the first graphs, small so that a near row is found soon
_ROWS = 2**14  # rows of each further graph; few graphs, since each has to wake its threads
_MOST_PAIRS = 64  # per patch; with more pairs the exact search is faster and takes over

Vectors = NDArray[np.float32]


class PcaIndex:
    """A bank projected on its principal axes, in memory; safe to share between threads."""

    def __init__(
        self,
        bank: MemoryBank,
        layout: Layout,
        exact: NearestIndex,
        *,
        threads: int | None = None,
    ) -> None:
        """Compute the axes, which reads the whole bank.

        Args:
            bank: The rows.
            layout: Shapes of the layers, and their upsampling.
            exact: The search that takes over if too many rows cannot be excluded.
            threads: Threads of one operator; `None` uses all available cores.
        """
        self._bank = [np.asarray(layer) for layer in bank.layers]
        self._exact = exact
        self._layout = layout
        axes = axes_of(bank)
        self._patches = open_graph(patches_graph(layout, axes), _OWN, threads=threads)
        self._graphs, self._largest = [], np.float32(0)
        for start, end in _ends(bank.rows):
            blocks = []
            for first in range(start, end, _BLOCK_ROWS):
                rows = bank.whole_rows(slice(first, min(first + _BLOCK_ROWS, end)))
                main, rest, squared = axes.split(rows)
                blocks.append(np.vstack([main.T, rest, -squared / 2]))
                self._largest = max(self._largest, squared.max())
            self._graphs.append((start, open_graph(bounds_graph(blocks), _OWN, threads=threads)))

    def nearest(self, layers: Layers) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As NearestIndex: (B, h, w) twice, from differences; the first of equally near rows."""
        images = zip(*layers, strict=True)
        found = [self._search([layer[None] for layer in image]) for image in images]
        distances, rows = zip(*found, strict=True)
        return np.concatenate(distances), np.concatenate(rows)

    def _search(self, layers: Layers) -> tuple[Vectors, NDArray[np.int64]]:
        """Search for one image, (1, C, h/s, w/s)."""
        names = self._layout.names
        parts = [f"patches_{at}" for at in range(len(names))]
        *patches, columns, squared = self._patches.run(
            [*parts, "columns", "squared"], dict(zip(names, layers, strict=True))
        )
        squared = squared[:, 0]
        slack = (squared + self._largest) * np.float32(SLACK)
        shortlist = Shortlist(self._bank, patches, squared, slack)
        for start, graph in self._graphs:
            least = shortlist.least[:, None]
            groups, bounds = graph.run(["groups", "bounds"], {"columns": columns, "least": least})
            pairs, members = np.nonzero(bounds >= least[groups[:, 0]])
            places, numbers = groups[pairs].T
            shortlist.add(places, start + numbers * GROUP + members, bounds[pairs, members])
            if shortlist.is_longer_than(_MOST_PAIRS * len(squared)):
                return self._exact.nearest(layers)
        shortlist.settle()
        shape = (1, *self._layout.grid)
        return np.sqrt(shortlist.nearest).reshape(shape), shortlist.winners.reshape(shape)


def _ends(rows: int) -> list[tuple[int, int]]:
    """Return the first row of each graph and the row after its last."""
    inner = sorted({*_FIRST, *range(_ROWS, rows, _ROWS)})
    ends = [0, *(end for end in inner if end < rows), rows]
    return list(pairwise(ends))
