"""index.faiss: the memory bank in a file of faiss, in two kinds; the same bytes every time.

bank -> file that plain faiss reads. Every random choice has a fixed seed. All runs in one thread,
because with several threads k-means adds in another order.
"""

from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from patchcore_build.errors import SearchError
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.errors import ArtifactError
from patchcore_runtime.manifest.manifest import IndexKind
from patchcore_runtime.search.faiss_file import CODE_BITS, check_faiss_file
from patchcore_runtime.search.faiss_index import import_faiss

RANDOM_SEED = 100


def write_faiss_flat(path: Path, bank: MemoryBank) -> None:
    """Write the whole rows as an IndexFlatL2, the original PatchCore's own file.

    Raises:
        ProviderError: faiss is not installed.
    """
    faiss = import_faiss(path)
    index = faiss.IndexFlatL2(sum(bank.channels))
    index.add(bank.whole_rows(slice(None)))
    _write(path, index, "faiss-flat", bank)


def write_faiss_ivfpq(
    path: Path, bank: MemoryBank, *, cells: int, probes: int, code_parts: int
) -> None:
    """Sort the rows into cells and compress their residuals to codes, an IndexIVFPQ.

    Both k-means are trained on all rows. A row takes `code_parts` + 8 bytes.

    Args:
        path: The file to write.
        bank: The rows, 256 or more.
        cells: faiss's nlist.
        probes: faiss's nprobe, for programs that open the file with plain faiss.
        code_parts: Number of parts of a row, faiss's M; a divisor of D.

    Raises:
        ProviderError: faiss is not installed.
        SearchError: most cells are empty, because rows are equal.
    """
    faiss = import_faiss(path)
    size = sum(bank.channels)
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(size), size, cells, code_parts, CODE_BITS)
    index.nprobe = probes
    for clustering in (index.cp, index.pq.cp):
        clustering.seed = RANDOM_SEED
        clustering.min_points_per_centroid = 1  # it would only print a warning
        clustering.max_points_per_centroid = bank.rows
    rows = bank.whole_rows(slice(None))
    with threadpool_limits(1):
        index.train(rows)
        index.add(rows)
    _refuse_empty_cells(index, cells)
    _write(path, index, "faiss-ivfpq", bank)


def _refuse_empty_cells(index: Any, cells: int) -> None:
    """Check that most cells have rows: faiss writes an index with many empty lists differently.

    Raises:
        SearchError: half of the cells or more are empty.
    """
    used = int(np.count_nonzero([index.invlists.list_size(cell) for cell in range(cells)]))
    if 2 * used <= cells:
        raise SearchError(
            f"index: --nlist: expected rows in most of the {cells} cells, got {used} cells with "
            "rows; lower --nlist"
        )


def _write(path: Path, index: Any, kind: IndexKind, bank: MemoryBank) -> None:
    import_faiss(path).write_index(index, str(path))
    try:
        check_faiss_file(path, kind, bank)  # the same check as in the runtime
    except ArtifactError as error:
        raise SearchError(f"index: this version of faiss writes another format: {error}") from None
