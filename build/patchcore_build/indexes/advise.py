"""Which index, and which size of bank, serves an artifact best on this machine.

artifact + limits -> every option measured (serving_entries.py), and one recommended. Options take
turns image by image, so that all see the same machine.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from patchcore_build.data.image_folder import list_images
from patchcore_build.indexes.entries import Entry, list_entries
from patchcore_build.indexes.quality import (
    MeasuredIndex,
    images_for,
    measure_indexes,
    settled_median,
)
from patchcore_build.indexes.reindex import MAX_SCORE_CHANGE
from patchcore_runtime.artifact.folder import SELFTEST_IMAGE, Artifact
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.manifest.manifest import IndexKind

_MOST_IMAGES = 32  # of the given ones, evenly spaced
_PREPROCESSED = 7  # times that one image is preprocessed, for the median


@dataclass(frozen=True, kw_only=True)
class AdviceJob:
    """What to choose for; `images` are images to measure on, best held-out ones."""

    artifact: Path
    target_ms: float | None = None  # an image, end to end
    max_mb: float | None = None  # the artifact, in 10^6 bytes
    images: Path | None = None
    threads: int | None = None
    public_key: Path | None = None  # PEM of a key that must have signed the artifact


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to serve the artifact, measured here, beside its whole bank searched exactly."""

    kind: IndexKind
    rows: int
    coreset_ratio: float | None  # where the option takes a new fit
    image_ms: float  # decode, resize, network, search, score and map
    search_ms: float
    artifact_mb: float
    recall: float
    largest_score_change: float

    def meets(self, job: AdviceJob) -> bool:
        """Whether it keeps within both limits, and on this bank's scores as `index` asks."""
        fast = job.target_ms is None or self.image_ms <= job.target_ms
        small = job.max_mb is None or self.artifact_mb <= job.max_mb
        # A smaller bank raises all scores; its fit finds thresholds of its own.
        same = self.coreset_ratio is not None or self.largest_score_change <= MAX_SCORE_CHANGE
        return fast and small and same


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What was measured, what could not be, and what to do, in one sentence."""

    options: tuple[Option, ...]
    left_out: tuple[str, ...]
    recommended: Option | None
    sentence: str
    command: str
    measured_on: str


def advise(job: AdviceJob) -> Advice:
    """Measure every option on this machine and recommend one.

    Of those within the limits the one whose scores move least is taken, and of equals the fastest;
    a smaller bank, which takes a new fit, only where no index does, and then the largest.

    Raises:
        ArtifactError: the artifact is damaged; or, as its kind SignatureError, not signed by
            `public_key`.
        DatasetError: no image in `images`.
    """
    source = Artifact.open_whole(job.artifact, public_key=job.public_key)
    listed = list_images(job.images).images if job.images else ()
    given = [str(path) for path in _spread(listed)]
    with tempfile.TemporaryDirectory(prefix="patchcore-") as scratch:
        entries, left_out = list_entries(source, Path(scratch), job.threads)
        images, measured_on = images_for(source, given)
        measured = [MeasuredIndex(e.bank, e.index, source) for e in entries]
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
    """Decode and resize: the median of the given images, or of the self-test's."""
    paths = given or [str(source.path(SELFTEST_IMAGE))] * _PREPROCESSED
    times = []
    for path in paths:
        start = time.perf_counter()
        preprocess(path, source.manifest.preprocess)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def choose(job: AdviceJob, options: tuple[Option, ...]) -> Option | None:
    """The option to recommend, as `advise` says; None where none keeps to the limits."""
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
            f"Nothing measured here keeps to {aim}; the fastest is {fastest.kind} with "
            f"{fastest.rows} rows, {fastest.image_ms:.1f} ms and {fastest.artifact_mb:.1f} MB: "
            "take a smaller backbone or input, or raise the limit."
        )
    facts = f"{chosen.image_ms:.1f} ms an image and {chosen.artifact_mb:.1f} MB"
    if chosen.coreset_ratio is not None:
        return (
            f"Take a bank of {chosen.rows} rows ({facts}): no index of this bank keeps to {aim}; "
            "a new fit finds its thresholds, and `evaluate` says what it costs in accuracy."
        )
    return (
        f"Take {chosen.kind} ({facts}): of what keeps to {aim} its scores move least "
        f"({chosen.largest_score_change:.2g} of the exact search's at most)."
    )


def _command(job: AdviceJob, chosen: Option, own: IndexKind) -> str:
    """How to get it; nothing where the artifact has it."""
    if chosen.coreset_ratio is not None:
        return (
            f"patchcore-build fit … --coreset-ratio {chosen.coreset_ratio:.6g} "
            "(the other options as this artifact was made)"
        )
    if chosen.kind == own:
        return ""
    images = f" --images {job.images}" if job.images and chosen.kind != "exact" else ""
    output = job.artifact.with_name(f"{job.artifact.name}-{chosen.kind}")
    return f"patchcore-build index {job.artifact} --kind {chosen.kind}{images} --output {output}"


def _spread(paths: tuple[Path, ...]) -> list[Path]:
    """At most `_MOST_IMAGES` of them, evenly spaced."""
    if len(paths) <= _MOST_IMAGES:
        return list(paths)
    return [paths[i * len(paths) // _MOST_IMAGES] for i in range(_MOST_IMAGES)]
