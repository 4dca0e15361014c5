"""Artifact -> the search over its memory bank.

Each kind of index has one module that uses its library; this module maps kinds to modules.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from patchcore_runtime.artifact.folder import INDEX_FILES, INDEX_ONNX, Artifact
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.engine.session import CPU
from patchcore_runtime.errors import SettingError
from patchcore_runtime.manifest.features import Layout
from patchcore_runtime.manifest.manifest import IndexKind
from patchcore_runtime.search.exact import ExactIndex, NearestIndex

Search = Literal["auto", "exact", "pca"]


def require_search(search: str) -> None:
    """Refuse a kind of search that does not exist.

    Raises:
        SettingError: it is not one of `Search`.
    """
    if search not in get_args(Search):
        raise SettingError(f"search: expected {', '.join(get_args(Search))}, got {search!r}")


def open_index(
    artifact: Artifact,
    search: Search,
    *,
    threads: int | None = None,
    providers: Sequence[str] = (CPU,),
) -> NearestIndex:
    """Load the search over an artifact's bank; `Detector.load` explains `search`.

    Raises:
        SettingError: `search` is no kind of search.
    """
    require_search(search)
    kind = artifact.manifest.index
    bank, layout = artifact.memory_bank, artifact.manifest.layout
    if kind.kind == "exact" or search != "auto":
        path = artifact.path(INDEX_ONNX)
        exact = ExactIndex(path, bank, layout, threads=threads, providers=providers)
        if search in ("auto", "exact"):
            return exact
        from patchcore_runtime.search.pca_index import PcaIndex

        return PcaIndex(bank, layout, exact, threads=threads)
    path = artifact.path(INDEX_FILES[kind.kind])
    return open_index_file(path, bank, layout, kind=kind.kind, effort=kind.effort, threads=threads)


def open_index_file(
    path: Path,
    bank: MemoryBank,
    layout: Layout,
    *,
    kind: IndexKind,
    effort: int,
    threads: int | None = None,
) -> NearestIndex:
    """Validate and load index.hnsw or index.faiss.

    Args:
        path: The file.
        bank: The rows that the index must contain.
        layout: Shapes of the layers.
        kind: The manifest's `index.kind`; not `exact`, which has no such file.
        effort: The manifest's `index.effort`.
        threads: Threads of one search; `None` uses all available cores.

    Raises:
        ArtifactError: the file is not that index of that bank.
        ProviderError: its library is not installed.
    """
    if kind == "hnsw":
        from patchcore_runtime.search.hnsw_index import HnswIndex

        return HnswIndex(path, bank, layout, effort=effort, threads=threads)
    from patchcore_runtime.search.faiss_index import FaissIndex

    return FaissIndex(path, bank, layout, kind=kind, effort=effort, threads=threads)
