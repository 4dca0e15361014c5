"""The same detector with another index: artifact folder -> new artifact folder, without a fit.

Bank, network and thresholds stay as they are; index.hnsw is built and measured, or left out, and
the self-test's map and score are made anew by the index that will serve them.
"""

import dataclasses
import importlib.metadata
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.errors import SearchError
from patchcore_build.hnsw_graph import RANDOM_SEED, write_hnsw
from patchcore_build.image_folder import list_images
from patchcore_build.index_quality import Quality, made_pictures, measure_index
from patchcore_build.progress import progress_bar
from patchcore_runtime.artifact import (
    INDEX_HNSW,
    INDEX_ONNX,
    MANIFEST,
    SELFTEST_INPUT,
    SELFTEST_MAP,
    Artifact,
)
from patchcore_runtime.detector import Detector
from patchcore_runtime.hnsw_index import HnswIndex
from patchcore_runtime.index import ExactIndex
from patchcore_runtime.manifest import Index, IndexKind, Manifest
from patchcore_runtime.new_artifact import EXACT_INDEX, new_folder, seal
from patchcore_runtime.preprocess import preprocess, read_image
from patchcore_runtime.selftest import rescore_selftest

_REMADE = (MANIFEST, SELFTEST_MAP, INDEX_HNSW)
_SEED = 0  # of the pictures made to measure on


@dataclass(frozen=True, kw_only=True)
class IndexJob:
    """Which artifact gets which index, where to, and how much its scores may move.

    `links`, `ef_construction` and `effort` are hnswlib's M, ef_construction and ef, and mean
    nothing for `exact`. `images` is a folder of pictures to measure on, best held-out ones.
    """

    artifact: Path
    output: Path
    kind: IndexKind
    links: int = 16
    ef_construction: int = 200
    effort: int = 128  # with 64, one of bottle's 83 test pictures scored twice as much (10 %)
    images: Path | None = None
    max_score_change: float = 0.01
    force: bool = False
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What was made; the last three are of an approximate index."""

    artifact: Path
    kind: IndexKind
    rows: int
    index_bytes: int = 0
    measured_on: str = ""
    quality: Quality | None = None


def change_index(job: IndexJob) -> IndexReport:
    """Write a new artifact with another index; the old one is only read.

    Raises:
        ArtifactError: the artifact is damaged.
        ProviderError: hnswlib is not installed.
        SearchError: scores move by more than allowed and `force` is off; nothing is left behind.
        OutputError: the output exists or cannot be written.
    """
    source = Artifact.open(job.artifact, verify=False)
    source.verify()
    with new_folder(job.output) as staging:
        for name in source.files:
            if name not in _REMADE:
                shutil.copyfile(source.path(name), staging / name)
        if job.kind == "hnsw":
            manifest, report = _with_hnsw(job, source, staging)
        else:
            manifest = _with_index(source.manifest, EXACT_INDEX)
            report = IndexReport(artifact=job.output, kind="exact", rows=manifest.memory_bank.rows)
        detector = Detector(Artifact(staging, manifest), threads=job.threads)
        selftest = rescore_selftest(staging, detector)
        seal(staging, dataclasses.replace(manifest, selftest=selftest))
    return report


def _with_index(manifest: Manifest, index: Index, **made: object) -> Manifest:
    """The manifest with another index; `made` says how, in its provenance."""
    known = {key: value for key, value in manifest.provenance.items() if key != "index"}
    candidates = manifest.index.mindir_candidates  # index.mindir serves whatever kind there is
    return dataclasses.replace(
        manifest,
        index=dataclasses.replace(index, mindir_candidates=candidates),
        provenance={**known, "index": made} if made else known,
    )


def _with_hnsw(job: IndexJob, source: Artifact, staging: Path) -> tuple[Manifest, IndexReport]:
    path, bank = staging / INDEX_HNSW, source.memory_bank
    with progress_bar("graph", "row") as progress:
        write_hnsw(
            path, bank, links=job.links, ef_construction=job.ef_construction, progress=progress
        )
    features = source.manifest.features
    graph = HnswIndex(path, bank, features, effort=job.effort, threads=job.threads)
    exact = ExactIndex(source.path(INDEX_ONNX), threads=job.threads)
    pictures, measured_on = _pictures(job, source)
    quality = measure_index(source, exact, graph, pictures, threads=job.threads)
    _refuse_moved_scores(job, quality)
    index = Index(
        kind="hnsw",
        effort=job.effort,
        recall=quality.recall,
        score_change=quality.largest_score_change,
        mindir_candidates=0,
    )
    manifest = _with_index(
        source.manifest,
        index,
        hnswlib=importlib.metadata.version("hnswlib"),
        m=job.links,
        ef_construction=job.ef_construction,
        random_seed=RANDOM_SEED,
        measured_on=measured_on,
    )
    report = IndexReport(
        artifact=job.output,
        kind="hnsw",
        rows=bank.rows,
        index_bytes=path.stat().st_size,
        measured_on=measured_on,
        quality=quality,
    )
    return manifest, report


def _pictures(job: IndexJob, source: Artifact) -> tuple[Iterator[NDArray[np.uint8]], str]:
    """Inputs to measure on, and words for them."""
    manifest = source.manifest
    own = np.asarray(read_image(source.path(SELFTEST_INPUT)))
    made = made_pictures(own, manifest.selftest.defect_box, seed=_SEED)
    if job.images is None:
        return made, "the self-test picture and 32 pictures made of it"
    given = list_images(job.images).images
    settings = manifest.preprocess

    def each() -> Iterator[NDArray[np.uint8]]:
        yield own
        yield from (preprocess(path, settings)[0] for path in given)

    return each(), f"the self-test picture and {len(given)} given ones"


def _refuse_moved_scores(job: IndexJob, quality: Quality) -> None:
    change, allowed = quality.largest_score_change, job.max_score_change
    if quality.recall > 0 and change <= (1.0 if job.force else allowed):
        return
    advice = "raise --ef or --m, or stay with --kind exact"
    storable = quality.recall > 0 and change <= 1
    advice += "; --force takes it as it is" if storable else "; a change beyond 1 is never stored"
    raise SearchError(
        f"{job.output}: expected image scores within {allowed:.3g} of the exact search's, got "
        f"{change:.3g} (recall {quality.recall:.4f}); {advice}"
    )
