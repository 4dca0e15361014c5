"""The file that an artifact may have beside index.onnx -> the search that it holds.

Each kind of index has one module that knows its library; here stands which file is whose.
"""

from pathlib import Path

from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.manifest.manifest import Features, IndexKind
from patchcore_runtime.search.exact import NearestIndex
from patchcore_runtime.search.faiss_index import FaissIndex
from patchcore_runtime.search.hnsw_index import HnswIndex


def open_index_file(
    path: Path,
    bank: MemoryBank,
    features: Features,
    *,
    kind: IndexKind,
    effort: int,
    threads: int | None = None,
) -> NearestIndex:
    """Check and load index.hnsw or index.faiss.

    Args:
        path: The file.
        bank: The rows that it must be an index of.
        features: Shapes of the layers.
        kind: What the manifest says that it is; not `exact`, which has no such file.
        effort: The manifest's `index.effort`.
        threads: Of one search; `None` takes the cores this process may use.

    Raises:
        ArtifactError: the file is not that index of that bank.
        ProviderError: its library is not installed here.
    """
    if kind == "hnsw":
        return HnswIndex(path, bank, features, effort=effort, threads=threads)
    return FaissIndex(path, bank, features, kind=kind, effort=effort, threads=threads)
