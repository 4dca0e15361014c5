"""index.hnsw: an HNSW graph over the memory bank, built by hnswlib; the same bytes every time.

bank -> file. The rows are added one after the other, in one thread, with a fixed seed for the
levels, so the graph does not depend on the run. Malkov & Yashunin 2018 (arXiv:1603.09320).
"""

from pathlib import Path

import numpy as np

from patchcore_build.progress import Progress, silent
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.search.hnsw_file import check_hnsw_file
from patchcore_runtime.search.hnsw_index import import_hnswlib

RANDOM_SEED = 100  # of the levels of the rows
_BLOCK_ROWS = 256  # between two calls of `progress`


def write_hnsw(
    path: Path,
    bank: MemoryBank,
    *,
    links: int,
    ef_construction: int,
    progress: Progress = silent,
) -> None:
    """Build the graph over whole rows in float32, and write it.

    It takes about 1 ms a row at D = 384 (one thread), and M·(4 D + 8 links + 16) bytes.

    Args:
        path: The file to write.
        bank: The rows; row i becomes the element with label i.
        links: hnswlib's M: links of an element on each upper level, twice as many on the lowest.
        ef_construction: Number of candidates while the links of a row are searched.
        progress: Called with the number of rows that are added.

    Raises:
        ProviderError: hnswlib is not installed.
    """
    graph = import_hnswlib(path).Index(space="l2", dim=sum(bank.channels))
    graph.init_index(
        max_elements=bank.rows, M=links, ef_construction=ef_construction, random_seed=RANDOM_SEED
    )
    for start in range(0, bank.rows, _BLOCK_ROWS):
        block = slice(start, min(start + _BLOCK_ROWS, bank.rows))
        graph.add_items(bank.whole_rows(block), np.arange(block.start, block.stop), num_threads=1)
        progress(block.stop, bank.rows)
    graph.save_index(str(path))
    check_hnsw_file(path, bank)  # the same check as in the runtime
