"""A folder of good photographs -> an artifact folder: the whole of the workshop, in order.

pictures -> features -> coreset -> memory bank (-> suspects, and once more without them)
-> thresholds -> exports -> self-test -> checksums.
Everything is written to a folder beside the target and renamed into place at the end.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from patchcore_build.artifact_writer import Making, new_folder, provenance, write_manifest
from patchcore_build.banks import Pictures, bank_of, open_scorer
from patchcore_build.calibration import calibrate, score_held_out
from patchcore_build.config import Config, describe_features
from patchcore_build.coreset import projection_size, random_projection
from patchcore_build.dataset import ImageFolder, list_images
from patchcore_build.device import Device, open_device
from patchcore_build.features import (
    FeatureStore,
    Storage,
    extract_features,
    keep_pictures,
    mindspore_network,
)
from patchcore_build.folds import every_picture_alone, group_pictures
from patchcore_build.index_graph import write_bank
from patchcore_build.progress import progress_bar
from patchcore_build.review import write_review
from patchcore_build.suspects import Suspect, choose_suspects, leave_one_out
from patchcore_build.training_inputs import Inputs, keep_inputs, load_inputs
from patchcore_runtime.artifact import FEATURES_MINDIR, FEATURES_ONNX
from patchcore_runtime.manifest import Calibration
from patchcore_runtime.memory_bank import MemoryBank

CellMaker = Callable[[], Any]  # a fresh, ready cell each time: an export wants one of its own
NetworkChooser = Callable[["FitJob", Inputs], tuple[CellMaker, dict[str, str]]]

EXPORT_TOLERANCE = 1e-4  # relative, of features.onnx and features.mindir against MindSpore
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """What to build, from what, where.

    `images` is a folder, or the listing that a data set gives.
    `groups` is a regular expression: pictures whose names agree in its first group show one part
    and are held out together. `review` is a folder for a page of the most suspicious ones;
    `drop_suspects` leaves out so many of them, or those that `auto` finds.
    `weights` is a file, `auto` (torchvision's, downloaded once), `random` (seeded, for benchmarks)
    or `None` for the scattering network. Arrays beyond `memory_budget_gb` go to files.
    """

    images: Path | ImageFolder
    category: str
    output: Path
    config: Config
    weights: str | None
    device: Device = "cpu"
    device_id: int = 0
    skip_bad: bool = False
    memory_budget_gb: float = 8.0
    groups: str | None = None
    review: Path | None = None
    drop_suspects: int | Literal["auto"] = 0


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What was built and how long each stage took."""

    artifact: Path
    images: int
    skipped: tuple[str, ...]
    dropped: tuple[str, ...]
    strays: int
    input_size: tuple[int, int]
    rows: int
    calibration: Calibration
    export_difference: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)


def fit(job: FitJob, *, choose_network: NetworkChooser | None = None) -> FitReport:
    """Build an artifact.

    Args:
        job: What to build.
        choose_network: Brings the feature network; by default the backbone and weights that the
            job names.

    Raises:
        PatchCoreError: one of its kinds, when pictures, weights, device, exports or the output
            folder are not what they should be; nothing is left behind.
    """
    clock = _Stopwatch()
    with (
        new_folder(job.output) as staging,
        tempfile.TemporaryDirectory(prefix="patchcore-") as scratch,
    ):
        with clock.stage("start MindSpore"):
            open_device(job.device, device_id=job.device_id, precision=job.config.precision)
        storage = Storage(Path(scratch), budget_bytes=int(job.memory_budget_gb * _GIB))
        folder = list_images(job.images) if isinstance(job.images, Path) else job.images
        with clock.stage("read pictures"), progress_bar("pictures", "image") as progress:
            inputs = load_inputs(
                folder, job.config, storage, skip_bad=job.skip_bad, progress=progress
            )
        if job.groups:
            group_pictures(inputs.names, job.groups)  # refuse before the long steps
        with clock.stage("weights"):
            make_cell, weights_source = (choose_network or _named_network)(job, inputs)
        with clock.stage("export"):
            difference = _export(make_cell, staging, inputs)
        network = mindspore_network(make_cell())
        with clock.stage("features"), progress_bar("features", "image") as progress:
            store = extract_features(
                network,
                inputs.pixels,
                upsampling=job.config.layer3_upsampling,
                storage=storage,
                progress=progress,
            )
        pictures, bank = _learn(store, inputs, job, storage, clock)
        dropped: tuple[str, ...] = ()
        if job.review is not None or job.drop_suspects:
            suspects = _review(pictures, bank, inputs, job, clock)
            dropped = tuple(suspect.reason for suspect in suspects)
        if dropped:
            kept = np.setdiff1d(np.arange(store.images), [s.image for s in suspects])
            inputs, store = keep_inputs(inputs, kept), keep_pictures(store, kept)
            del pictures  # its projection is as large as the features
            pictures, bank = _learn(store, inputs, job, storage, clock)
        calibration = _calibrate(pictures, clock)
        with clock.stage("write"):
            features = describe_features(job.config, inputs.preprocessing, bank.channels)
            write_bank(staging, bank, features)
            write_manifest(
                staging,
                inputs,
                calibration,
                Making(
                    category=job.category,
                    dropped=dropped,
                    config=job.config,
                    provenance=provenance(staging, weights=weights_source, device=job.device),
                ),
            )
    return FitReport(
        artifact=job.output,
        images=len(inputs.names),
        skipped=inputs.skipped,
        dropped=dropped,
        strays=folder.strays,
        input_size=(inputs.preprocessing.height, inputs.preprocessing.width),
        rows=bank.rows,
        calibration=calibration,
        export_difference=difference,
        seconds=clock.seconds,
    )


def _named_network(job: FitJob, inputs: Inputs) -> tuple[CellMaker, dict[str, str]]:
    from patchcore_build.parameters import make_network

    with progress_bar("weights", "byte") as progress:
        return make_network(job.config, job.weights, inputs, progress=progress)


class _Stopwatch:
    """Seconds per named stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def _export(make_cell: CellMaker, staging: Path, inputs: Inputs) -> dict[str, float]:
    """Write both graphs and compare each with MindSpore on two of the pictures."""
    from patchcore_build.export import compare_mindir, compare_onnx, export_mindir, export_onnx

    size = inputs.preprocessing
    pixels = np.ascontiguousarray(inputs.pixels[:2])
    expected = mindspore_network(make_cell())(pixels)
    onnx_path, mindir_path = staging / FEATURES_ONNX, staging / FEATURES_MINDIR
    export_onnx(make_cell, onnx_path, height=size.height, width=size.width)
    export_mindir(make_cell, mindir_path, height=size.height, width=size.width)
    return {
        FEATURES_ONNX: compare_onnx(onnx_path, pixels, expected, tolerance=EXPORT_TOLERANCE),
        FEATURES_MINDIR: compare_mindir(mindir_path, pixels, expected, tolerance=EXPORT_TOLERANCE),
    }


def _learn(
    store: FeatureStore, inputs: Inputs, job: FitJob, storage: Storage, clock: _Stopwatch
) -> tuple[Pictures, MemoryBank]:
    """Project the patches and choose the bank's rows among them."""
    names, config = inputs.names, job.config
    groups = group_pictures(names, job.groups) if job.groups else every_picture_alone(len(names))
    pictures = Pictures(
        store=store,
        projected=_project(store, config, storage, clock),
        groups=groups,
        size=inputs.preprocessing,
        config=config,
    )
    with clock.stage("coreset"), progress_bar("coreset", "row") as progress:
        return pictures, bank_of(pictures, progress=progress)


def _project(
    store: FeatureStore, config: Config, storage: Storage, clock: _Stopwatch
) -> NDArray[np.float32]:
    count = store.images * store.patches_per_image
    matrix = random_projection(
        store.layer2.shape[3] + store.layer3.shape[3], projection_size(count), seed=config.seed
    )
    projected = storage.allocate((count, matrix.shape[1]))
    with clock.stage("projection"), progress_bar("projection", "image") as progress:
        store.project(matrix, projected, progress)
    return projected


def _review(
    pictures: Pictures, bank: MemoryBank, inputs: Inputs, job: FitJob, clock: _Stopwatch
) -> tuple[Suspect, ...]:
    """Score every picture without its own rows, show the strangest, say which are to go."""
    with (
        clock.stage("suspects"),
        progress_bar("suspects", "image") as progress,
        tempfile.TemporaryDirectory(prefix="patchcore-") as folder,
    ):
        found = leave_one_out(pictures, bank, open_scorer(pictures, bank, Path(folder)), progress)
        suspects = choose_suspects(found.scores, inputs.names, job.drop_suspects)
        if job.review is not None:
            write_review(job.review, found, pictures, inputs, suspects)
    return suspects


def _calibrate(pictures: Pictures, clock: _Stopwatch) -> Calibration:
    with (
        clock.stage("calibration"),
        progress_bar("calibration", "image") as progress,
        tempfile.TemporaryDirectory(prefix="patchcore-") as folder,
    ):
        scores = score_held_out(pictures, folder=Path(folder), progress=progress)
        return calibrate(scores, pictures.config)
