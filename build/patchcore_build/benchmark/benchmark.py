"""Fit and evaluate every category of a data set with every seed; an interrupted run can continue.

data set + settings -> OUTPUT/results.{json,csv,md}, a report per category, and one small file per
finished run (OUTPUT/runs/CATEGORY/seed-N.json). A run with such a file is not repeated. A category
that fails is listed, and does not stop the others.
"""

import contextlib
import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchcore_build.backbone.device import Device
from patchcore_build.config import Config
from patchcore_build.data.layouts import Dataset, open_dataset
from patchcore_build.errors import DatasetError, OutputError, require
from patchcore_build.evaluation.evaluate import Evaluation, evaluate
from patchcore_build.fitting.fit import fit
from patchcore_build.fitting.job import FitJob, FitReport, check_network
from patchcore_build.progress import Progress, progress_bar, silent
from patchcore_build.report.gallery import Gallery
from patchcore_build.report.report import write_report
from patchcore_build.weights.read import check_source, digest
from patchcore_runtime.detector import Detector
from patchcore_runtime.errors import PatchCoreError
from patchcore_runtime.files.regular import read_regular
from patchcore_runtime.files.whole import check_writable, refuse_folders, write_whole
from patchcore_runtime.stopping import held, is_stopping

_MOST_JSON_BYTES = 2**26

SETTINGS = "settings.json"
RESULTS = ("results.json", "results.csv", "results.md")
LogLine = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BenchmarkJob:
    """Data set, settings and output of a benchmark.

    Empty `categories` mean all categories of the data set. Each of `seeds` replaces `config.seed`.
    Artifacts are removed after the evaluation unless `keep_artifacts` is set.

    Raises:
        SettingError: a value is out of its range, or would do nothing beside the others.
    """

    dataset: Path
    output: Path
    config: Config
    weights: str | None
    categories: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    device: Device = "cpu"
    device_id: int = 0
    keep_artifacts: bool = False

    def __post_init__(self) -> None:
        check_network(self.config, self.weights, self.device, self.device_id)
        whole = all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in self.seeds)
        require(bool(self.seeds) and whole, "--seeds", "one or more of 0 to 2^32 - 1", self.seeds)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One category and seed: its figures and times, or the error."""

    category: str
    seed: int
    figures: dict[str, Any]
    fit_seconds: dict[str, float]
    ms_per_image: float | None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class BenchmarkRuns:
    """All runs of a benchmark in order, finished and failed ones."""

    layout: str
    runs: tuple[Run, ...]

    @property
    def failed(self) -> tuple[Run, ...]:
        """Runs that ended with an error."""
        return tuple(run for run in self.runs if run.error is not None)


def run_benchmark(
    job: BenchmarkJob, *, tell: LogLine, progress: Progress = silent
) -> BenchmarkRuns:
    """Fit and evaluate every category with every seed, except runs that are finished already.

    Args:
        job: Data set, settings and output.
        tell: Called with a line when a run starts or fails.
        progress: Called with the number of the next run, and the number of all runs.

    Raises:
        DatasetError: a named category does not exist.
        WeightsError: there is no such weights file.
        OutputError: the output folder cannot be written, or has results of other settings.
    """
    dataset = open_dataset(job.dataset)
    categories = _categories(job, dataset)
    check_source(job.config.backbone, job.weights)
    check_writable(job.output)
    refuse_folders(job.output / name for name in (SETTINGS, *RESULTS))
    _claim_output(job)
    turns = list(itertools.product(categories, job.seeds))
    runs: list[Run] = []
    for number, turn in enumerate(turns, start=1):
        progress(number, len(turns))
        runs.append(_finished(job, *turn) or _run(job, dataset, *turn, tell))
    return BenchmarkRuns(layout=dataset.layout, runs=tuple(runs))


def _categories(job: BenchmarkJob, dataset: Dataset) -> tuple[str, ...]:
    present = dataset.categories()
    missing = [category for category in job.categories if category not in present]
    if missing:
        raise DatasetError(
            f"{job.dataset}: no category {', '.join(missing)}; it has {', '.join(present)}"
        )
    return job.categories or present


def _claim_output(job: BenchmarkJob) -> None:
    """Write the settings into the output folder, or compare them with those of finished runs.

    Settings with which no run was finished are replaced.

    Raises:
        OutputError: earlier runs had other settings.
    """
    settings = json.loads(json.dumps({**dataclasses.asdict(job.config), "seed": "see runs"}))
    settings["weights"] = _identify(job.weights)
    path = job.output / SETTINGS
    if not any((job.output / "runs").glob("*/seed-*.json")):
        job.output.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(settings, indent=2).encode() + b"\n")
        return
    before = _read_json(path)
    for name, value in settings.items():
        if before.get(name) != value:
            raise OutputError(
                f"{path}: {name}: these results were made with {before.get(name)!r}, now it is "
                f"{value!r}; choose another --output, or remove the folder"
            )


def _identify(weights: str | None) -> str:
    """Weights by the digest of their file, so that a moved file counts as the same."""
    if weights is None or not Path(weights).is_file():
        return str(weights)
    return f"sha256 {digest(Path(weights))}"


def _path(job: BenchmarkJob, category: str, seed: int) -> Path:
    return job.output / "runs" / category / f"seed-{seed}.json"


def _finished(job: BenchmarkJob, category: str, seed: int) -> Run | None:
    path = _path(job, category, seed)
    return Run(**_read_json(path)) if path.exists() else None


def _run(job: BenchmarkJob, dataset: Dataset, category: str, seed: int, tell: LogLine) -> Run:
    tell(f"{category}, seed {seed} …")
    artifact = job.output / "artifacts" / f"{category}-seed-{seed}"
    kept = False
    try:
        run = _measure(job, dataset, category, seed, artifact)
    except (PatchCoreError, OSError) as error:
        if is_stopping():  # a library turned the interrupt into this error
            raise KeyboardInterrupt from error
        tell(f"{category}, seed {seed}: FAILED: {error}")
        return Run(
            category=category,
            seed=seed,
            figures={},
            fit_seconds={},
            ms_per_image=None,
            error=str(error),
        )
    else:
        path = _path(job, category, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(dataclasses.asdict(run), indent=2).encode() + b"\n")
        kept = job.keep_artifacts
        return run
    finally:
        if not kept:
            _remove(artifact)


def _remove(artifact: Path) -> None:
    """Remove an artifact that nobody keeps; after a stop also its folder, if that is empty."""
    with held():
        shutil.rmtree(artifact, ignore_errors=True)
        if not is_stopping():
            return
        with contextlib.suppress(OSError):  # others are in it, or it does not exist
            artifact.parent.rmdir()


def _measure(job: BenchmarkJob, dataset: Dataset, category: str, seed: int, artifact: Path) -> Run:
    shutil.rmtree(artifact, ignore_errors=True)  # an interrupted run may have left it
    report = _fit(job, dataset, category, seed, artifact)
    detector = Detector.load(artifact)
    gallery = Gallery(detector) if seed == job.seeds[0] else None
    with progress_bar(f"{category}: scoring", "image") as progress:
        evaluation = evaluate(
            detector,
            dataset,
            category,
            progress=progress,
            visit=gallery.visit if gallery else None,
        )
    if gallery:
        write_report(job.output / "reports" / category, evaluation, gallery, detector.manifest)
    return Run(
        category=category,
        seed=seed,
        figures=_figures(evaluation),
        fit_seconds=report.seconds,
        ms_per_image=1e3 * evaluation.seconds["scoring"] / len(evaluation.images),
    )


def _fit(
    job: BenchmarkJob, dataset: Dataset, category: str, seed: int, artifact: Path
) -> FitReport:
    return fit(
        FitJob(
            images=dataset.training_images(category),
            category=category,
            output=artifact,
            config=dataclasses.replace(job.config, seed=seed),
            weights=job.weights,
            device=job.device,
            device_id=job.device_id,
        )
    )


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    """All figures except the list of images, which is in the report."""
    figures = evaluation.to_dict()
    figures["image_count"] = len(figures.pop("images"))
    return figures


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(read_regular(path, limit=_MOST_JSON_BYTES))
    except ValueError as error:
        raise OutputError(f"{path}: not JSON ({error}); remove it to run this again") from None
    return content
