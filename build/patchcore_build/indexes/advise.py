"""Recommend the index and the bank size that serve an artifact best on this machine.

artifact + limits -> measurements of every option (`entries`), and one recommended option. The
options take turns image by image, so that all run under the same conditions.
"""

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from patchcore_build.data.image_folder import list_images
from patchcore_build.errors import require
from patchcore_build.indexes.entries import Entry, list_entries
from patchcore_build.indexes.quality import (
    MeasuredIndex,
    images_for,
    measure_indexes,
    settled_median,
)
from patchcore_build.indexes.reindex import MAX_SCORE_CHANGE
from patchcore_build.progress import progress_bar
from patchcore_runtime.artifact.folder import SELFTEST_IMAGE, Artifact
from patchcore_runtime.engine.session import thread_count
from patchcore_runtime.files.staging import scratch_folder
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.manifest.manifest import IndexKind

_MOST_IMAGES = 32  # of the given images, evenly spaced
_PREPROCESSED = 7  # how often one image is preprocessed, for the median


@dataclass(frozen=True, kw_only=True)
class AdviceJob:
    """The artifact, and the limits that an option must meet."""

    artifact: Path
    target_ms: float | None = None  # longest time of an image, end to end
    max_mb: float | None = None  # largest artifact, in 10^6 bytes
    images: Path | None = None  # folder of images to measure on, preferably held-out ones
    threads: int | None = None
    public_key: Path | None = None  # PEM of a key that must have signed the artifact

    def __post_init__(self) -> None:
        thread_count(self.threads)
        for option, limit in (("--target-ms", self.target_ms), ("--max-mb", self.max_mb)):
            fits = limit is None or 0 < limit < math.inf
            require(fits, option, "a number above 0", limit)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to serve the artifact, compared with the exact search of its whole bank."""

    kind: IndexKind
    rows: int
    coreset_ratio: float | None  # of the new fit that the option needs; None if it needs none
    image_ms: float  # decode, resize, network, search, score and map
    search_ms: float
    artifact_mb: float
    recall: float
    largest_score_change: float

    def meets(self, job: AdviceJob) -> bool:
        """Whether it meets both limits, and changes scores by no more than `index` allows."""
        fast = job.target_ms is None or self.image_ms <= job.target_ms
        small = job.max_mb is None or self.artifact_mb <= job.max_mb
        # A smaller bank raises all scores, and its new fit estimates its own thresholds.
        same = self.coreset_ratio is not None or self.largest_score_change <= MAX_SCORE_CHANGE
        return fast and small and same


@dataclass(frozen=True, kw_only=True)
class Advice:
    """All measurements, the options that could not be measured, and a recommendation."""

    options: tuple[Option, ...]
    left_out: tuple[str, ...]
    recommended: Option | None
    sentence: str
    command: str
    measured_on: str


def advise(job: AdviceJob) -> Advice:
    """Measure every option on this machine and recommend one.

    Among the options within the limits, the one that changes scores least is recommended, and the
    fastest of equal ones. Only if no index of this bank meets the limits, a smaller bank is
    recommended, which needs a new fit: the largest within the limits.

    Raises:
        ArtifactError: the artifact is corrupt; or, as its kind SignatureError, not signed by
            `public_key`.
        DatasetError: `images` contains no image.
    """
    listed = list_images(job.images).images if job.images else ()
    source = Artifact.open_whole(job.artifact, public_key=job.public_key)
    given = [str(path) for path in _spread(listed)]
    with scratch_folder() as scratch:
        entries, left_out = list_entries(source, scratch, job.threads)
        images, measured_on = images_for(source, given)
        measured = [MeasuredIndex(e.bank, e.index, source) for e in entries]
        with progress_bar("measuring"):
            network_ms = measure_indexes(source, images, measured, threads=job.threads)
    before_ms = settled_median(network_ms) + _preprocess_ms(source, given)
    options = tuple(
        _option(entry, index, measured[0], before_ms)
        for entry, index in zip(entries, measured, strict=True)
    )
    chosen, own = choose(job, options), source.manifest.index.kind
    return Advice(
        options=options,
        left_out=tuple(left_out),
        recommended=chosen,
        sentence=_sentence(job, options, chosen),
        command=_command(job, chosen, own) if chosen else "",
        measured_on=measured_on,
    )


def _option(
    entry: Entry, index: MeasuredIndex, reference: MeasuredIndex, before_ms: float
) -> Option:
    quality = index.quality(reference)
    return Option(
        kind=entry.kind,
        rows=entry.bank.rows,
        coreset_ratio=entry.coreset_ratio,
        image_ms=before_ms + quality.scoring_ms,
        search_ms=quality.approximate_ms,
        artifact_mb=entry.artifact_mb,
        recall=quality.recall,
        largest_score_change=quality.largest_score_change,
    )


def _preprocess_ms(source: Artifact, given: list[str]) -> float:
    """Median time to decode and resize the given images, or the self-test image."""
    paths = given or [str(source.path(SELFTEST_IMAGE))] * _PREPROCESSED
    times = []
    for path in paths:
        start = time.perf_counter()
        preprocess(path, source.manifest.preprocess)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def choose(job: AdviceJob, options: tuple[Option, ...]) -> Option | None:
    """Choose the option that `advise` recommends; None if none is within the limits."""
    within = [option for option in options if option.meets(job)]
    of_this_bank = [option for option in within if option.coreset_ratio is None]
    if of_this_bank:
        return min(of_this_bank, key=lambda o: (o.largest_score_change, o.image_ms))
    return max(within, key=lambda option: option.rows, default=None)


def _sentence(job: AdviceJob, options: tuple[Option, ...], chosen: Option | None) -> str:
    limits = [f"{job.target_ms:g} ms an image"] if job.target_ms is not None else []
    limits += [f"{job.max_mb:g} MB"] if job.max_mb is not None else []
    aim = " and ".join(limits) or "no limit"
    if chosen is None:
        fastest = min(options, key=lambda option: option.image_ms)
        return (
            f"No option measured here meets {aim}; the fastest is {fastest.kind} with "
            f"{fastest.rows} rows, {fastest.image_ms:.1f} ms and {fastest.artifact_mb:.1f} MB: "
            "use a smaller backbone or input, or raise the limit."
        )
    facts = f"{chosen.image_ms:.1f} ms an image and {chosen.artifact_mb:.1f} MB"
    if chosen.coreset_ratio is not None:
        return (
            f"Use a bank of {chosen.rows} rows ({facts}): no index of this bank meets {aim}. A new "
            "fit estimates its thresholds, and `evaluate` measures its accuracy."
        )
    return (
        f"Use {chosen.kind} ({facts}): of the options that meet {aim} it changes scores least (by "
        f"a share of {chosen.largest_score_change:.2g} of the exact search's at most)."
    )


def _command(job: AdviceJob, chosen: Option, own: IndexKind) -> str:
    """The command that makes the chosen option; empty if the artifact has it already."""
    if chosen.coreset_ratio is not None:
        return (
            f"patchcore-build fit … --coreset-ratio {chosen.coreset_ratio:.6g} "
            "(with the other options of this artifact's fit)"
        )
    if chosen.kind == own:
        return ""
    images = f" --images {job.images}" if job.images and chosen.kind != "exact" else ""
    output = job.artifact.with_name(f"{job.artifact.name}-{chosen.kind}")
    return f"patchcore-build index {job.artifact} --kind {chosen.kind}{images} --output {output}"


def _spread(paths: tuple[Path, ...]) -> list[Path]:
    """At most `_MOST_IMAGES` paths, evenly spaced."""
    if len(paths) <= _MOST_IMAGES:
        return list(paths)
    return [paths[i * len(paths) // _MOST_IMAGES] for i in range(_MOST_IMAGES)]
