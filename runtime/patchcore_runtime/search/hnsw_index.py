"""Approximate nearest-neighbour search with a graph: index.hnsw and the optional hnswlib.

layers of some images -> distance and bank row of each patch. They equal those of the exact
search unless a walk ends at another row. Malkov & Yashunin 2018 (arXiv:1603.09320).
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.engine.session import thread_count
from patchcore_runtime.errors import ArtifactError, ProviderError
from patchcore_runtime.manifest.features import Layout
from patchcore_runtime.search.hnsw_file import check_hnsw_file
from patchcore_runtime.search.ranked import RankedIndex


class HnswIndex(RankedIndex):
    """The loaded graph of one artifact; safe to share between threads."""

    def __init__(
        self,
        path: Path,
        bank: MemoryBank,
        layout: Layout,
        *,
        effort: int,
        threads: int | None = None,
    ) -> None:
        super().__init__(bank, layout)
        library = import_hnswlib(path)
        check_hnsw_file(path, bank)
        self._graph = library.Index(space="l2", dim=sum(bank.channels))
        try:
            self._graph.load_index(os.fsencode(path), max_elements=bank.rows)
        except RuntimeError as error:
            raise ArtifactError(f"{path}: hnswlib cannot load it ({error})") from None
        self._graph.set_ef(effort)
        self._threads = thread_count(threads)

    def propose(self, patches: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the row at which each walk ends, (P, 1)."""
        labels, _ = self._graph.knn_query(patches, k=1, num_threads=self._threads)
        rows: NDArray[np.int64] = labels.astype(np.int64)
        return rows


def import_hnswlib(needed_for: Path) -> Any:
    """Import hnswlib, which the lean wheel does not include because it comes as source only.

    Raises:
        ProviderError: the library is not installed; the message names the extra.
    """
    try:
        import hnswlib
    except ImportError:
        raise ProviderError(
            f"{needed_for}: hnswlib is not installed here; "
            "pip install 'patchcore-runtime[hnsw]' (needs a C++ compiler), or use --search exact"
        ) from None
    return hnswlib
