"""Prepare the ways to serve an artifact for a measurement: kinds of index, and smaller banks.

artifact -> entries. The rows of a bank are in the order in which the greedy coreset picked them. So
its first rows are the coreset of a smaller ratio, and no new fit is needed to measure it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchcore_build.coreset.select import coreset_size
from patchcore_build.errors import SearchError
from patchcore_build.indexes.settings import IndexSettings, effort_of, resolve, write_index_file
from patchcore_build.progress import progress_bar
from patchcore_runtime.artifact.folder import (
    INDEX_FILES,
    INDEX_MINDIR,
    INDEX_ONNX,
    MEMORY_BANK,
    Artifact,
)
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.bank.neighbours import nearest_rows
from patchcore_runtime.errors import ProviderError
from patchcore_runtime.manifest.manifest import IndexKind
from patchcore_runtime.search.exact import ExactIndex, NearestIndex
from patchcore_runtime.search.exact_graph import write_bank
from patchcore_runtime.search.open import open_index_file

_SHARES = (0.5, 0.25, 0.1)  # of the bank's rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """A way to serve the artifact, ready to search; with a `coreset_ratio` it needs a new fit."""

    kind: IndexKind
    bank: MemoryBank
    index: NearestIndex
    artifact_mb: float
    coreset_ratio: float | None = None


def list_entries(
    source: Artifact, scratch: Path, threads: int | None = None
) -> tuple[list[Entry], list[str]]:
    """List the exact search of the whole bank first, then other kinds, then smaller banks.

    Args:
        source: The artifact, which is only read.
        scratch: An empty folder for the files of the indexes.
        threads: Threads of one search.

    Returns:
        The entries, and a line for each entry that is not available on this machine.
    """
    bank = source.memory_bank
    exact = ExactIndex(source.path(INDEX_ONNX), bank, source.manifest.layout, threads=threads)
    own = INDEX_FILES.get(source.manifest.index.kind)
    bare_mb = _megabytes(source.path(name) for name in source.files if name != own)
    entries = [Entry(kind="exact", bank=bank, index=exact, artifact_mb=bare_mb)]
    left_out = []
    for kind in INDEX_FILES:
        try:
            entries.append(_with_file(source, scratch, kind, bare_mb, threads))
        except (ProviderError, SearchError) as error:  # the library is missing, or rows are too few
            left_out.append(f"{kind}: {str(error).rpartition(': ')[2]}")
    if _ratio_of(source) is None:
        left_out.append("smaller banks: this bank's rows are not the coreset of its settings")
        return entries, left_out
    for share in _SHARES:
        rows = round(share * bank.rows)
        fewest = max(2, bank.neighbours.shape[1])
        if rows >= fewest:
            entries.append(_smaller(source, scratch, rows, bare_mb, threads))
        else:
            left_out.append(f"a bank of {rows} rows: expected {fewest} or more")
    return entries, left_out


def _with_file(
    source: Artifact, scratch: Path, kind: IndexKind, bare_mb: float, threads: int | None
) -> Entry:
    """A kind of index over the whole bank: the artifact's own index, or one with the defaults."""
    bank, manifest = source.memory_bank, source.manifest
    if manifest.index.kind == kind:
        path, effort = source.path(INDEX_FILES[kind]), manifest.index.effort
    else:
        settings = resolve(IndexSettings(kind=kind), bank)
        path, effort = scratch / f"{kind}.{INDEX_FILES[kind]}", effort_of(settings)
        with progress_bar(kind, "row") as progress:
            write_index_file(path, bank, settings, progress=progress)
    index = open_index_file(path, bank, manifest.layout, kind=kind, effort=effort, threads=threads)
    return Entry(kind=kind, bank=bank, index=index, artifact_mb=bare_mb + _megabytes([path]))


def _smaller(
    source: Artifact, scratch: Path, rows: int, bare_mb: float, threads: int | None
) -> Entry:
    """The exact search of the first rows."""
    folder = scratch / str(rows)
    folder.mkdir()
    bank = first_rows(source.memory_bank, rows)
    layout = source.manifest.layout
    index = ExactIndex(write_bank(folder, bank, layout), bank, layout, threads=threads)
    whole = [source.path(name) for name in (MEMORY_BANK, INDEX_ONNX)]
    saved = _megabytes(whole) - _megabytes(folder.iterdir())
    if source.manifest.index.mindir_candidates:  # its size is proportional to the rows
        left = rows / source.memory_bank.rows
        saved += (1 - left) * _megabytes([source.path(INDEX_MINDIR)])
    config = source.manifest.config
    ratio = float(config["coreset_ratio"]) * rows / source.memory_bank.rows
    return Entry(
        kind="exact", bank=bank, index=index, artifact_mb=bare_mb - saved, coreset_ratio=ratio
    )


def first_rows(bank: MemoryBank, rows: int) -> MemoryBank:
    """The bank that a coreset of so many rows gives; only the table of neighbours is recomputed."""
    part = slice(0, rows)
    norms = bank.norms[part]
    count = min(bank.neighbours.shape[1], rows)
    return MemoryBank(
        layers=tuple(layer[part] for layer in bank.layers),
        norms=norms,
        origins=bank.origins[part],
        neighbours=nearest_rows(bank.whole_rows(part), np.asarray(norms), count),
    )


def _ratio_of(source: Artifact) -> float | None:
    """The coreset ratio if the bank has as many rows as a fit with this ratio gives, else None."""
    manifest = source.manifest
    ratio = manifest.config.get("coreset_ratio")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        return None
    patches = len(manifest.training.images) * _patches_of_an_image(source)
    return ratio if coreset_size(patches, ratio) == manifest.memory_bank.rows else None


def _patches_of_an_image(source: Artifact) -> int:
    """Number of patches of one image that a coreset is chosen from.

    They are the patches of all tiles inside of the region of interest. If tiles overlap, each of
    them has its own copy of a patch.
    """
    grid, region = source.manifest.grid, source.region
    counts = np.ones(grid.cells, np.bool_) if region is None else region.patches
    return int(np.count_nonzero(grid.pieces(counts)))


def _megabytes(paths: Iterable[Path]) -> float:
    return sum(path.stat().st_size for path in paths) / 1e6
