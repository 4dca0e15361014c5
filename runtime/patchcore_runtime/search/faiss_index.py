"""Nearest-neighbour search with the optional faiss: index.faiss, one class for its two kinds.

layers of some images -> distance and bank row of each patch. `faiss-flat` compares a patch
with every row. `faiss-ivfpq` visits some cells, whose rows are compressed to codes (Jegou et al.
2011, doi:10.1109/TPAMI.2010.57).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.engine.session import thread_count
from patchcore_runtime.errors import ArtifactError, ProviderError
from patchcore_runtime.files.regular import open_regular
from patchcore_runtime.manifest.features import Layout
from patchcore_runtime.manifest.manifest import IndexKind
from patchcore_runtime.search.faiss_file import check_faiss_file
from patchcore_runtime.search.ranked import RankedIndex

# Candidates per patch that are ranked by the bank's own rows; codes are only approximate.
RANKED = {"faiss-flat": 1, "faiss-ivfpq": 32}


class FaissIndex(RankedIndex):
    """The index of one artifact, in memory; safe to share between threads."""

    def __init__(
        self,
        path: Path,
        bank: MemoryBank,
        layout: Layout,
        *,
        kind: IndexKind,
        effort: int,
        threads: int | None = None,
    ) -> None:
        super().__init__(bank, layout)
        self._faiss = import_faiss(path)
        check_faiss_file(path, kind, bank)
        try:
            with open_regular(path) as file:  # faiss itself cannot open every legal path
                reader = self._faiss.PyCallbackIOReader(file.read)
                self._index = self._faiss.read_index(reader)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise ArtifactError(f"{path}: faiss cannot load it ({reason})") from None
        if kind == "faiss-ivfpq":
            self._index.nprobe = effort
        self._ranked = min(RANKED[kind], bank.rows)
        self._threads = thread_count(threads)

    def propose(self, patches: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the rows that faiss ranks highest, (P, S), padded with -1."""
        self._faiss.omp_set_num_threads(self._threads)  # applies to the calling thread only
        rows: NDArray[np.int64] = self._index.search(patches, self._ranked)[1]
        return rows


def import_faiss(needed_for: Path) -> Any:
    """Import faiss, which the lean wheel does not include.

    Raises:
        ProviderError: the library is not installed; the message names the extra.
    """
    try:
        import faiss
    except ImportError:
        raise ProviderError(
            f"{needed_for}: faiss is not installed here; "
            "pip install 'patchcore-runtime[faiss]' ('patchcore-build[faiss]' to make one), "
            "or use --search exact"
        ) from None
    return faiss
