"""Change the index of a finished detector: artifact folder -> new artifact folder, without a fit.

Bank, network and thresholds stay unchanged. index.hnsw or index.faiss is built and measured, or
left out. The new index recomputes the map and the score of the self-test.
"""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from patchcore_build.data.image_folder import list_images
from patchcore_build.errors import SearchError, require
from patchcore_build.indexes.quality import MeasuredIndex, Quality, images_for, measure_indexes
from patchcore_build.indexes.settings import (
    IndexSettings,
    effort_of,
    made_with,
    resolve,
    write_index_file,
)
from patchcore_build.progress import progress_bar
from patchcore_build.signing import new_signed_folder
from patchcore_runtime.artifact.folder import (
    INDEX_FILES,
    INDEX_ONNX,
    MANIFEST,
    SELFTEST_MAP,
    Artifact,
)
from patchcore_runtime.artifact.writing import EXACT_INDEX, check_new_folder, seal
from patchcore_runtime.detector import Detector
from patchcore_runtime.engine.session import thread_count
from patchcore_runtime.manifest.manifest import Index, IndexKind, Manifest
from patchcore_runtime.search.exact import ExactIndex
from patchcore_runtime.search.open import open_index_file
from patchcore_runtime.selftest import rescore_selftest

_REMADE = (MANIFEST, SELFTEST_MAP, *INDEX_FILES.values())
_OPTION_TO_RAISE = {
    "hnsw": "--ef or --m",
    "faiss-ivfpq": "--nprobe or --pq-m",
}
MAX_SCORE_CHANGE = 0.01  # relative change of an image score; a larger one is refused


@dataclass(frozen=True, kw_only=True)
class IndexJob:
    """The artifact, its new index, the output, and how much scores may change.

    `images` is a folder of images to measure on, preferably held-out ones. `sign` is the PEM file
    of a private key; without it the new artifact is unsigned, because its checksums differ from
    the old ones. `public_key` is the PEM file of a key that must have signed the old artifact.
    """

    artifact: Path
    output: Path
    settings: IndexSettings
    images: Path | None = None
    max_score_change: float = MAX_SCORE_CHANGE
    force: bool = False
    threads: int | None = None
    sign: Path | None = None
    public_key: Path | None = None

    def __post_init__(self) -> None:
        thread_count(self.threads)
        limit = self.max_score_change
        require(0 <= limit <= 1, "--max-score-change", "0 to 1", limit)
        measured = self.settings.kind != "exact"
        for option, given in (("--images", self.images is not None), ("--force", self.force)):
            require(measured or not given, option, "another kind than exact", "exact")


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """The new artifact; the last four fields describe an index with its own file."""

    artifact: Path
    kind: IndexKind
    rows: int
    file: str = ""
    index_bytes: int = 0
    measured_on: str = ""
    quality: Quality | None = None


def change_index(job: IndexJob) -> IndexReport:
    """Write a new artifact with another index; the old one is only read.

    Raises:
        ArtifactError: the artifact is corrupt; or, as its kind SignatureError, not signed by
            `public_key`.
        ProviderError: the library of the index is not installed.
        SearchError: the bank does not fit the settings, or scores change by more than allowed and
            `force` is off; no files are left behind.
        OutputError: the output exists or cannot be written.
        DatasetError: `images` contains no image.
    """
    check_new_folder(job.output)
    if job.images is not None:
        list_images(job.images)  # refuse a folder without images before the index is built
    source = Artifact.open_whole(job.artifact, public_key=job.public_key)
    with new_signed_folder(job.output, sign=job.sign) as staging:
        for name in source.files:
            if name not in _REMADE:
                shutil.copyfile(source.path(name), staging / name)
        if job.settings.kind in INDEX_FILES:
            manifest, report = _with_file(job, source, staging)
        else:
            manifest = _with_index(source.manifest, EXACT_INDEX)
            report = IndexReport(artifact=job.output, kind="exact", rows=manifest.memory_bank.rows)
        detector = Detector(Artifact(staging, manifest), threads=job.threads)
        selftest = rescore_selftest(staging, detector)
        seal(staging, dataclasses.replace(manifest, selftest=selftest))
    return report


def _with_index(manifest: Manifest, index: Index, **made: object) -> Manifest:
    """The manifest with another index; `made` describes it in the provenance."""
    known = {key: value for key, value in manifest.provenance.items() if key != "index"}
    candidates = manifest.index.mindir_candidates  # index.mindir is independent of the kind
    return dataclasses.replace(
        manifest,
        index=dataclasses.replace(index, mindir_candidates=candidates),
        provenance={**known, "index": made} if made else known,
    )


def _with_file(job: IndexJob, source: Artifact, staging: Path) -> tuple[Manifest, IndexReport]:
    """Build and measure an index with a file; returns the new manifest and the report."""
    bank, kind = source.memory_bank, job.settings.kind
    settings = resolve(job.settings, bank)
    path = staging / INDEX_FILES[kind]
    with progress_bar(kind, "row") as progress:
        write_index_file(path, bank, settings, progress=progress)
    quality, measured_on = _measure(job, source, path, effort_of(settings))
    _refuse_moved_scores(job, quality)
    index = Index(
        kind=kind,
        effort=effort_of(settings),
        recall=quality.recall,
        score_change=quality.largest_score_change,
        mindir_candidates=0,
    )
    manifest = _with_index(
        source.manifest,
        index,
        **made_with(settings),
        measured_on=measured_on,
        patches=quality.patches,
        mean_score_change=quality.mean_score_change,
    )
    report = IndexReport(
        artifact=job.output,
        kind=kind,
        rows=bank.rows,
        file=path.name,
        index_bytes=path.stat().st_size,
        measured_on=measured_on,
        quality=quality,
    )
    return manifest, report


def _measure(job: IndexJob, source: Artifact, path: Path, effort: int) -> tuple[Quality, str]:
    """Compare the staged index with the exact search; returns a description of the images, too."""
    manifest, bank, kind = source.manifest, source.memory_bank, job.settings.kind
    exact = ExactIndex(source.path(INDEX_ONNX), bank, manifest.layout, threads=job.threads)
    own = open_index_file(
        path, bank, manifest.layout, kind=kind, effort=effort, threads=job.threads
    )
    reference, measured = (MeasuredIndex(bank, index, source) for index in (exact, own))
    given = list_images(job.images).images if job.images else ()
    images, measured_on = images_for(source, [str(path) for path in given])
    with progress_bar("measuring"):
        measure_indexes(source, images, [reference, measured], threads=job.threads)
    return measured.quality(reference), measured_on


def _refuse_moved_scores(job: IndexJob, quality: Quality) -> None:
    change, allowed = quality.largest_score_change, job.max_score_change
    if quality.recall > 0 and change <= (1.0 if job.force else allowed):
        return
    option = _OPTION_TO_RAISE.get(job.settings.kind, "--max-score-change")
    advice = f"raise {option}, or use --kind exact"
    storable = quality.recall > 0 and change <= 1
    advice += "; --force accepts it" if storable else "; a change beyond 1 is never accepted"
    raise SearchError(
        f"{job.output}: expected image scores within {allowed:.3g} of the exact search's, got "
        f"{change:.3g} (recall {quality.recall:.4f}); {advice}"
    )
