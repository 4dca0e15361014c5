"""Nearest-neighbour search by the optional faiss: index.faiss, one class for its two kinds.

layer2, layer3 of some images -> distance and bank row of each patch. `faiss-flat` compares with
every row, `faiss-ivfpq` looks into some cells at
rows compressed to codes (Jegou et al. 2011, doi:10.1109/TPAMI.2010.57).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.engine.session import usable_cores
from patchcore_runtime.errors import ArtifactError, ProviderError
from patchcore_runtime.manifest.manifest import Features, IndexKind
from patchcore_runtime.search.faiss_file import check_faiss_file
from patchcore_runtime.search.ranked import RankedIndex

# Codes tell rows apart only roughly: so many of the best are ranked by the bank's own rows.
RANKED = {"faiss-flat": 1, "faiss-ivfpq": 32}


class FaissIndex(RankedIndex):
    """The index of one artifact, in memory; safe to share between threads."""

    def __init__(
        self,
        path: Path,
        bank: MemoryBank,
        features: Features,
        *,
        kind: IndexKind,
        effort: int,
        threads: int | None = None,
    ) -> None:
        super().__init__(bank, features)
        self._faiss = import_faiss(path)
        check_faiss_file(path, kind, bank)
        try:
            self._index = self._faiss.read_index(str(path))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise ArtifactError(f"{path}: faiss cannot load it ({reason})") from None
        if kind == "faiss-ivfpq":
            self._index.nprobe = effort
        self._ranked = min(RANKED[kind], bank.rows)
        self._threads = threads or usable_cores()

    def propose(self, patches: NDArray[np.float32]) -> NDArray[np.int64]:
        """The rows that faiss ranks highest, (P, S); -1 where it has fewer."""
        self._faiss.omp_set_num_threads(self._threads)  # of the calling thread's work alone
        rows: NDArray[np.int64] = self._index.search(patches, self._ranked)[1]
        return rows


def import_faiss(needed_for: Path) -> Any:
    """The library, which the lean wheel does not bring.

    Raises:
        ProviderError: it is not installed here; the message names the extra.
    """
    try:
        import faiss
    except ImportError:
        raise ProviderError(
            f"{needed_for}: faiss is not installed here; "
            "pip install 'patchcore-runtime[faiss]' ('patchcore-build[faiss]' to make one), "
            "or take --search exact"
        ) from None
    return faiss
