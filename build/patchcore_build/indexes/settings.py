"""Settings of an index beside index.onnx: validated settings -> file, effort, provenance.

Every kind has its defaults here. Settings that a kind does not use stay None.
"""

import importlib.metadata
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from patchcore_build.errors import SearchError, require
from patchcore_build.indexes.faiss_build import RANDOM_SEED as FAISS_SEED
from patchcore_build.indexes.faiss_build import (
    write_faiss_flat,
    write_faiss_ivfpq,
)
from patchcore_build.indexes.hnsw_build import RANDOM_SEED as HNSW_SEED
from patchcore_build.indexes.hnsw_build import write_hnsw
from patchcore_build.progress import Progress, silent
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.manifest.manifest import IndexKind
from patchcore_runtime.search.faiss_file import CODE_BITS

_LINKS = 16
_EF_CONSTRUCTION = 200
_EFFORT = 128  # with 64, one of bottle's 83 test images had twice its score (10 % coreset)
_LARGEST_PQ_M = 64  # bytes of a row's code, by default
_CELLS_SEARCHED = 0.25  # share of all cells: defects lie far from the centre of every cell
_TAKEN: dict[IndexKind, tuple[str, ...]] = {
    "hnsw": ("links", "ef_construction", "effort"),
    "faiss-ivfpq": ("cells", "probes", "code_parts"),
}


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """The settings of the command line; None takes the default, which may depend on the bank.

    `links`, `ef_construction` and `effort` are M, efConstruction and ef of hnswlib; `cells`,
    `probes` and `code_parts` are nlist, nprobe and pq-m of faiss-ivfpq.

    Raises:
        SettingError: the kind does not exist or does not take a setting, or one is below 1.
    """

    kind: IndexKind
    links: int | None = None
    ef_construction: int | None = None
    effort: int | None = None
    cells: int | None = None
    probes: int | None = None
    code_parts: int | None = None

    def __post_init__(self) -> None:
        require(
            self.kind in get_args(IndexKind), "kind", f"one of {get_args(IndexKind)}", self.kind
        )
        taken = _TAKEN.get(self.kind, ())
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            fits = value is None or field.name in taken
            require(fits, field.name, f"none for the kind {self.kind}", value)
            require(value is None or value >= 1, field.name, "1 or more", value)


def resolve(settings: IndexSettings, bank: MemoryBank) -> IndexSettings:
    """Fill in the defaults for this bank.

    Raises:
        SearchError: the bank is too small, or a setting does not fit it.
    """
    kind = settings.kind
    if kind == "hnsw":
        return IndexSettings(
            kind=kind,
            links=settings.links or _LINKS,
            ef_construction=settings.ef_construction or _EF_CONSTRUCTION,
            effort=settings.effort or _EFFORT,
        )
    if kind != "faiss-ivfpq":
        return IndexSettings(kind=kind)
    return _resolve_ivfpq(settings, bank)


def _resolve_ivfpq(settings: IndexSettings, bank: MemoryBank) -> IndexSettings:
    rows, size, least = bank.rows, sum(bank.channels), 2**CODE_BITS
    if rows < least:
        raise SearchError(
            f"index: faiss-ivfpq: expected {least} bank rows or more to train the codes on, got "
            f"{rows}; take --kind exact, which is fast for so few rows"
        )
    cells = settings.cells or math.isqrt(rows)
    probes = settings.probes or math.ceil(_CELLS_SEARCHED * cells)
    parts = settings.code_parts or _default_code_parts(size)
    for holds, option, expected, got in (
        (cells <= rows, "--nlist", f"{rows}, the rows of the bank, or less", cells),
        (probes <= cells, "--nprobe", f"{cells}, the number of cells (--nlist), or less", probes),
        (size % parts == 0, "--pq-m", f"a divisor of {size}, the length of a row", parts),
    ):
        require(holds, f"index: {option}", expected, got, error=SearchError)
    return IndexSettings(kind=settings.kind, cells=cells, probes=probes, code_parts=parts)


def effort_of(settings: IndexSettings) -> int:
    """The manifest's `index.effort` of resolved settings; 0 if every row is compared."""
    return settings.effort or settings.probes or 0


def write_index_file(
    path: Path, bank: MemoryBank, settings: IndexSettings, *, progress: Progress = silent
) -> None:
    """Build index.hnsw or index.faiss from resolved settings; the same bytes every time.

    Raises:
        ProviderError: the library is not installed.
        SearchError: the rows are unsuitable for such an index.
    """
    if settings.kind == "faiss-flat":
        write_faiss_flat(path, bank)
    elif settings.cells and settings.probes and settings.code_parts:
        write_faiss_ivfpq(
            path, bank,
            cells=settings.cells, probes=settings.probes, code_parts=settings.code_parts,
        )  # fmt: skip
    elif settings.links and settings.ef_construction and settings.effort:
        write_hnsw(
            path, bank,
            links=settings.links, ef_construction=settings.ef_construction, progress=progress,
        )  # fmt: skip


def made_with(settings: IndexSettings) -> dict[str, Any]:
    """The library, its version, and the resolved settings by its own names, for provenance."""
    kind = settings.kind
    library, package = ("hnswlib", "hnswlib") if kind == "hnsw" else ("faiss", "faiss-cpu")
    made: dict[str, Any] = {library: importlib.metadata.version(package)}
    if kind == "hnsw":
        made |= {"m": settings.links, "ef_construction": settings.ef_construction}
        made["random_seed"] = HNSW_SEED
    elif kind == "faiss-ivfpq":
        made |= {"nlist": settings.cells, "nprobe": settings.probes, "pq_m": settings.code_parts}
        made["random_seed"] = FAISS_SEED
    return made


def _default_code_parts(size: int) -> int:
    """The largest divisor of a row's length up to 64."""
    return max(parts for parts in range(1, min(size, _LARGEST_PQ_M) + 1) if size % parts == 0)
