"""A folder of good photographs -> an artifact folder: the whole of the workshop, in order.

images -> features -> coreset -> memory bank (-> suspects, and once more without them)
-> exports -> thresholds -> self-test -> checksums.
Everything is written to a folder beside the target and renamed into place at the end.
"""

import dataclasses
import gc
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone.device import Device, open_device
from patchcore_build.backbone.network import Network, mindspore_network, onnx_network
from patchcore_build.calibration.banks import TrainingFeatures
from patchcore_build.calibration.folds import group_images
from patchcore_build.config import Config, describe_features
from patchcore_build.coreset.checkpoint import clear_checkpoints
from patchcore_build.data.dataset import ImageFolder, list_images
from patchcore_build.data.training_inputs import Inputs, load_inputs
from patchcore_build.export.checked import CellMaker, export_features, export_shortlist
from patchcore_build.features.normal_images import describe_normal
from patchcore_build.fitting.artifact_writer import (
    Making,
    keep_thumbnails,
    provenance,
    write_manifest,
)
from patchcore_build.fitting.float32_twin import Float32Twin
from patchcore_build.fitting.learner import Learner, without
from patchcore_build.progress import Stopwatch, progress_bar
from patchcore_build.signing import new_signed_folder
from patchcore_build.storage import Storage
from patchcore_runtime.artifact.folder import FEATURES_ONNX
from patchcore_runtime.artifact.writing import EXACT_INDEX
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.manifest.calibration import Calibration
from patchcore_runtime.search.exact_graph import write_bank

NetworkOpener = Callable[[], Network]
NetworkChooser = Callable[["FitJob", Inputs], tuple[CellMaker, dict[str, str]]]

_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """What to build, from what, where.

    `images` is a folder, or the listing that a data set gives.
    `groups` is a regular expression: images whose names agree in its first group show one part
    and are held out together. `review` is a folder for a page of the most suspicious ones;
    `drop_suspects` leaves out so many of them, or those that `auto` finds.
    `weights` is a file, `auto` (torchvision's, downloaded once), `random` (seeded, for benchmarks)
    or `None` for the scattering network. Arrays beyond `memory_budget_gb` go to files.
    `roi` is a mask image or a polygon of what counts, see `roi.plan_region`.
    `checkpoints` is a folder where unfinished coresets are kept, so that a fit that was
    interrupted takes them up again; emptied of them in the end. Where
    `config.feature_precision` is int8, the category of the data set `test_set` is scored before
    and after quantization, and a loss of AUROC above `LARGEST_LOSS` is refused unless `force`.
    `sign` is the PEM of an ed25519 private key that signs the artifact.
    `keep_thumbnails` puts small photographs of the training images into the artifact.
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
    roi: str | Path | None = None
    checkpoints: Path | None = None
    test_set: Path | None = None
    force: bool = False
    keep_thumbnails: bool = False
    groups: str | None = None
    review: Path | None = None
    drop_suspects: int | Literal["auto"] = 0
    sign: Path | None = None


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What was built and how long each stage took."""

    artifact: Path
    images: int
    skipped: tuple[str, ...]
    dropped: tuple[str, ...]
    strays: int
    input_size: tuple[int, int]
    tiles: int  # of an image
    region_share: float  # of the input's pixels, those that count
    rows: int
    calibration: Calibration
    export_difference: dict[str, float]
    quantization: dict[str, Any] | None = None  # as in the manifest's provenance
    seconds: dict[str, float] = field(default_factory=dict)


def fit(
    job: FitJob,
    *,
    choose_network: NetworkChooser | None = None,
    after_stage: Callable[[], None] | None = None,
) -> FitReport:
    """Build an artifact.

    Args:
        job: What to build.
        choose_network: Brings the feature network; by default the backbone and weights that the
            job names.
        after_stage: Called after every stage; the command returns freed memory there.

    Raises:
        PatchCoreError: one of its kinds, when images, weights, device, exports or the output
            folder are not what they should be; nothing is left behind.
    """
    clock = Stopwatch(after_stage)
    with (
        new_signed_folder(job.output, sign=job.sign) as staging,
        tempfile.TemporaryDirectory(prefix="patchcore-") as scratch,
    ):
        report = _build(job, choose_network or _named_network, staging, Path(scratch), clock)
    if job.checkpoints is not None:
        clear_checkpoints(job.checkpoints)
    return dataclasses.replace(report, seconds=clock.seconds)


def _build(
    job: FitJob, choose_network: NetworkChooser, staging: Path, scratch: Path, clock: Stopwatch
) -> FitReport:
    """Everything between the empty staging folder and the full one."""
    config = job.config
    with clock.stage("start MindSpore"):
        open_device(job.device, device_id=job.device_id, precision=config.precision)
    storage = Storage(scratch, budget_bytes=int(job.memory_budget_gb * _GIB))
    folder = list_images(job.images) if isinstance(job.images, Path) else job.images
    inputs = _read(folder, job, storage, clock)
    with clock.stage("weights"):
        make_cell, weights_source = choose_network(job, inputs)
    with clock.stage("export"):
        difference = export_features(make_cell, staging, inputs, config)
    learner = Learner(
        config=config,
        device=job.device,
        groups=job.groups,
        checkpoints=job.checkpoints,
        storage=storage,
        clock=clock,
    )
    open_network = _fastest_network(job.device, make_cell, staging)
    del make_cell  # it holds the parameters, which an exported graph has itself
    gc.collect()  # cells are cyclic
    lesson = _learn(learner, open_network, inputs, job)
    twin = None
    if config.feature_precision == "int8":
        twin = Float32Twin(staging, scratch / "float32", lesson.inputs, config)
        lesson = _quantize(twin, learner, lesson)
    bank = learner.bank(lesson.training, lesson.rows)
    candidates = _write_index(staging, bank, lesson.training, clock)
    if twin is not None and job.test_set is not None:
        with clock.stage("float32 against int8"):
            twin.compare(job.category, job.test_set, force=job.force)
    calibration = learner.calibrate(lesson.training)
    with clock.stage("calibration"):
        monitoring = describe_normal(lesson.inputs.pixels, lesson.training.store)
    kept, dropped = lesson.inputs, lesson.dropped
    del lesson  # the features: what is written is tested with a network of its own
    quantization = twin.facts if twin is not None else None
    with clock.stage("write"):
        made = provenance(
            staging, weights=weights_source, device=job.device, quantization=quantization
        )
        making = Making(
            category=job.category,
            dropped=dropped,
            config=config,
            monitoring=monitoring,
            provenance=made,
            index=dataclasses.replace(EXACT_INDEX, mindir_candidates=candidates),
        )
        if job.keep_thumbnails:
            keep_thumbnails(staging, kept, bank)
        write_manifest(staging, kept, calibration, making)
    return FitReport(
        artifact=job.output,
        images=len(kept.names),
        skipped=inputs.skipped,
        dropped=dropped,
        strays=folder.strays,
        input_size=(inputs.preprocessing.height, inputs.preprocessing.width),
        tiles=inputs.grid.tiles,
        region_share=1.0 if inputs.roi is None else inputs.roi.share,
        rows=bank.rows,
        calibration=calibration,
        export_difference=difference,
        quantization=quantization,
    )


def _read(folder: ImageFolder, job: FitJob, storage: Storage, clock: Stopwatch) -> Inputs:
    with clock.stage("read images"), progress_bar("images", "image") as progress:
        inputs = load_inputs(
            folder, job.config, storage, skip_bad=job.skip_bad, roi=job.roi, progress=progress
        )
    if job.groups:
        group_images(inputs.names, job.groups)  # refuse before the long steps
    return inputs


def _fastest_network(device: Device, make_cell: CellMaker, staging: Path) -> NetworkOpener:
    """On a CPU the graph that was just exported and compared: ONNX Runtime is faster there."""
    if device == "cpu":
        return lambda: onnx_network(staging / FEATURES_ONNX)
    return lambda: mindspore_network(make_cell())


def _named_network(job: FitJob, inputs: Inputs) -> tuple[CellMaker, dict[str, str]]:
    from patchcore_build.backbone.parameters import make_network

    with progress_bar("weights", "byte") as progress:
        return make_network(job.config, job.weights, inputs, progress=progress)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lesson:
    """The images that a bank is made of, and the rows of it."""

    inputs: Inputs
    training: TrainingFeatures
    rows: NDArray[np.int64]
    dropped: tuple[str, ...] = ()


def _learn(learner: Learner, open_network: NetworkOpener, inputs: Inputs, job: FitJob) -> _Lesson:
    """Choose the bank's rows; where suspects are to go, once more without them."""
    store = learner.features(open_network(), inputs)
    training = learner.prepare(store, inputs)
    rows = learner.choose(training, "bank")
    if job.review is None and not job.drop_suspects:
        return _Lesson(inputs=inputs, training=training, rows=rows)
    suspects = learner.review(training, rows, inputs, drop=job.drop_suspects, page=job.review)
    if suspects:
        del training  # its projection is as large as the features
        store, inputs = without(suspects, store, inputs)
        training = learner.prepare(store, inputs)
        rows = learner.choose(training, "bank-kept")
    dropped = tuple(suspect.reason for suspect in suspects)
    return _Lesson(inputs=inputs, training=training, rows=rows, dropped=dropped)


def _quantize(twin: Float32Twin, learner: Learner, lesson: _Lesson) -> _Lesson:
    """The same rows in int8: what differs from float32 is arithmetic, not the draw of rows."""
    bank = learner.bank(lesson.training, lesson.rows)
    with learner.clock.stage("quantize"):
        network = twin.quantize(bank)
    store = learner.features(network, lesson.inputs)
    training = dataclasses.replace(lesson.training, store=store)
    return dataclasses.replace(lesson, training=training)


def _write_index(
    staging: Path, bank: MemoryBank, training: TrainingFeatures, clock: Stopwatch
) -> int:
    """Write the bank and its graphs; returns how many rows index.mindir gives for a patch."""
    config = training.config
    with clock.stage("write"):
        features = describe_features(config, training.size, bank.channels)
        index_path = write_bank(staging, bank, features)
    if config.feature_precision == "int8":
        return 0
    with clock.stage("export"):
        return export_shortlist(staging, bank, index_path, training.store)
