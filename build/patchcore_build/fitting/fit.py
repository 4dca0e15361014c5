"""Build an artifact: a folder of good images -> an artifact folder.

images -> exported network -> features -> coreset -> memory bank -> thresholds -> artifact.
All files are written to a folder beside the target, which is renamed at the end.
"""

import dataclasses
import gc
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone.device import open_device
from patchcore_build.backbone.network import Network, mindspore_network, onnx_network
from patchcore_build.calibration.banks import TrainingFeatures
from patchcore_build.calibration.folds import group_images
from patchcore_build.config import describe_features
from patchcore_build.coreset.checkpoint import clear_checkpoints
from patchcore_build.data.dataset import ImageFolder, list_images
from patchcore_build.data.training_inputs import Inputs, load_inputs
from patchcore_build.export.checked import CellMaker, export_features, export_shortlist
from patchcore_build.features.normal_images import describe_normal
from patchcore_build.fitting.artifact_writer import (
    ArtifactFacts,
    keep_thumbnails,
    provenance,
    write_manifest,
)
from patchcore_build.fitting.float32_twin import Float32Twin
from patchcore_build.fitting.job import FitJob, FitReport
from patchcore_build.fitting.learner import Learner, without
from patchcore_build.progress import Stopwatch, progress_bar
from patchcore_build.signing import new_signed_folder
from patchcore_build.storage import Storage
from patchcore_runtime.artifact.folder import FEATURES_ONNX
from patchcore_runtime.artifact.writing import EXACT_INDEX
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.manifest.calibration import Calibration
from patchcore_runtime.manifest.monitoring import Monitoring
from patchcore_runtime.search.exact_graph import write_bank

NetworkChooser = Callable[[FitJob, Inputs], tuple[CellMaker, dict[str, str]]]

_GIB = 2**30


def fit(
    job: FitJob,
    *,
    choose_network: NetworkChooser | None = None,
    after_stage: Callable[[], None] | None = None,
) -> FitReport:
    """Build an artifact.

    Args:
        job: Images, settings and output folder.
        choose_network: Makes the feature network; by default with the backbone and weights of the
            job.
        after_stage: Called after every stage; the command returns freed memory in it.

    Raises:
        PatchCoreError: one of its kinds, if images, weights, device, exports or the output folder
            are invalid; no files are left behind.
    """
    clock = Stopwatch(after_stage)
    with (
        new_signed_folder(job.output, sign=job.sign) as staging,
        tempfile.TemporaryDirectory(prefix="patchcore-") as scratch,
    ):
        storage = Storage(Path(scratch), budget_bytes=int(job.memory_budget_gb * _GIB))
        site = _Site(job=job, staging=staging, scratch=Path(scratch), storage=storage, clock=clock)
        report = _build(site, choose_network or _named_network)
    if job.checkpoints is not None:
        clear_checkpoints(job.checkpoints)
    return dataclasses.replace(report, seconds=clock.seconds)


@dataclass(frozen=True, kw_only=True)
class _Site:
    """The job of a fit, the folder that becomes the artifact, and storage for arrays."""

    job: FitJob
    staging: Path
    scratch: Path
    storage: Storage
    clock: Stopwatch


@dataclass(frozen=True, kw_only=True)
class _Exported:
    """The exported network."""

    open: Callable[[], Network]
    weights: dict[str, str]  # for provenance
    difference: dict[str, float]  # largest relative difference of each file from MindSpore


@dataclass(frozen=True, kw_only=True, eq=False)
class _Selection:
    """The images that a bank is made of, and its rows."""

    inputs: Inputs
    training: TrainingFeatures
    rows: NDArray[np.int64]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Learned:
    """Everything learned from the images, without their features."""

    inputs: Inputs
    dropped: tuple[str, ...]
    bank: MemoryBank
    mindir_candidates: int  # rows that index.mindir gives for a patch
    calibration: Calibration
    monitoring: Monitoring
    quantization: dict[str, Any] | None


def _build(site: _Site, choose_network: NetworkChooser) -> FitReport:
    """Run all steps of a fit and fill the staging folder.

    Each step frees memory that the next one does not need: MindSpore's cells before the features
    are computed, and the features before the artifact is tested.
    """
    job = site.job
    with site.clock.stage("start MindSpore"):
        open_device(job.device, device_id=job.device_id, precision=job.config.precision)
    folder = list_images(job.images) if isinstance(job.images, Path) else job.images
    inputs = _read(site, folder)
    exported = _export_network(site, choose_network, inputs)
    learned = _learn(site, exported.open, inputs)
    _write_artifact(site, learned, exported)
    return FitReport(
        artifact=job.output,
        images=len(learned.inputs.names),
        skipped=inputs.skipped,
        dropped=learned.dropped,
        strays=folder.strays,
        input_size=(inputs.preprocessing.height, inputs.preprocessing.width),
        tiles=inputs.grid.tiles,
        region_share=1.0 if inputs.roi is None else inputs.roi.share,
        rows=learned.bank.rows,
        calibration=learned.calibration,
        export_difference=exported.difference,
        quantization=learned.quantization,
    )


def _read(site: _Site, folder: ImageFolder) -> Inputs:
    """Preprocess all training images."""
    job = site.job
    with site.clock.stage("read images"), progress_bar("images", "image") as progress:
        inputs = load_inputs(
            folder, job.config, site.storage, skip_bad=job.skip_bad, roi=job.roi, progress=progress
        )
    if job.groups:
        group_images(inputs.names, job.groups)  # raise errors before the long steps
    return inputs


def _export_network(site: _Site, choose_network: NetworkChooser, inputs: Inputs) -> _Exported:
    """Write the network's files and compare them with MindSpore.

    On a CPU the exported graph computes all features from now on: ONNX Runtime is faster than
    MindSpore, and it scores images later. MindSpore's cells, which hold the parameters, are freed.
    """
    with site.clock.stage("weights"):
        make_cell, weights = choose_network(site.job, inputs)
    with site.clock.stage("export"):
        difference = export_features(make_cell, site.staging, inputs, site.job.config)
        gc.collect()  # exported cells contain reference cycles
    if site.job.device == "cpu":
        path = site.staging / FEATURES_ONNX
        return _Exported(open=lambda: onnx_network(path), weights=weights, difference=difference)
    return _Exported(
        open=lambda: mindspore_network(make_cell()), weights=weights, difference=difference
    )


def _named_network(job: FitJob, inputs: Inputs) -> tuple[CellMaker, dict[str, str]]:
    from patchcore_build.backbone.parameters import make_network

    with progress_bar("weights", "byte") as progress:
        return make_network(job.config, job.weights, inputs, progress=progress)


def _learn(site: _Site, open_network: Callable[[], Network], inputs: Inputs) -> _Learned:
    """Features -> memory bank with its index, thresholds, and statistics of normal images."""
    job = site.job
    learner = Learner(
        config=job.config,
        device=job.device,
        groups=job.groups,
        checkpoints=job.checkpoints,
        storage=site.storage,
        clock=site.clock,
    )
    selection = _choose_rows(learner, open_network, inputs, job)
    twin = None
    if job.config.feature_precision == "int8":
        twin = Float32Twin(site.staging, site.scratch / "float32", selection.inputs, job.config)
        selection = _quantize(twin, learner, selection)
    bank = learner.bank(selection.training, selection.rows)
    candidates = _write_index(site, bank, selection.training)
    if twin is not None and job.test_set is not None:
        with site.clock.stage("float32 against int8"):
            twin.compare(job.category, job.test_set, force=job.force)
    calibration = learner.calibrate(selection.training)
    with site.clock.stage("calibration"):
        monitoring = describe_normal(selection.inputs.pixels, selection.training.store)
    return _Learned(
        inputs=selection.inputs,
        dropped=selection.dropped,
        bank=bank,
        mindir_candidates=candidates,
        calibration=calibration,
        monitoring=monitoring,
        quantization=None if twin is None else twin.facts,
    )


def _choose_rows(
    learner: Learner, open_network: Callable[[], Network], inputs: Inputs, job: FitJob
) -> _Selection:
    """Choose the bank's rows; if suspects are dropped, choose again without them."""
    store = learner.features(open_network(), inputs)
    training = learner.prepare(store, inputs)
    rows = learner.choose(training, "bank")
    if job.review is None and not job.drop_suspects:
        return _Selection(inputs=inputs, training=training, rows=rows)
    suspects = learner.review(training, rows, inputs, drop=job.drop_suspects, page=job.review)
    if suspects:
        del training  # free its projection, which is as large as the features
        store, inputs = without(suspects, store, inputs)
        training = learner.prepare(store, inputs)
        rows = learner.choose(training, "bank-kept")
    dropped = tuple(suspect.reason for suspect in suspects)
    return _Selection(inputs=inputs, training=training, rows=rows, dropped=dropped)


def _quantize(twin: Float32Twin, learner: Learner, selection: _Selection) -> _Selection:
    """The same rows in int8, so that float32 and int8 differ by arithmetic alone."""
    bank = learner.bank(selection.training, selection.rows)
    with learner.clock.stage("quantize"):
        network = twin.quantize(bank)
    store = learner.features(network, selection.inputs)
    training = dataclasses.replace(selection.training, store=store)
    return dataclasses.replace(selection, training=training)


def _write_index(site: _Site, bank: MemoryBank, training: TrainingFeatures) -> int:
    """Write the bank and its graphs; return how many rows index.mindir lists for a patch."""
    config = training.config
    with site.clock.stage("write"):
        features = describe_features(config, training.size, bank.channels)
        index_path = write_bank(site.staging, bank, features)
    if config.feature_precision == "int8":
        return 0
    with site.clock.stage("export"):
        return export_shortlist(site.staging, bank, index_path, training.store)


def _write_artifact(site: _Site, learned: _Learned, exported: _Exported) -> None:
    """Complete the staging folder: thumbnails, self-test, manifest, checksums."""
    job, staging = site.job, site.staging
    with site.clock.stage("write"):
        facts = ArtifactFacts(
            category=job.category,
            dropped=learned.dropped,
            config=job.config,
            monitoring=learned.monitoring,
            provenance=provenance(
                staging,
                weights=exported.weights,
                device=job.device,
                quantization=learned.quantization,
            ),
            index=dataclasses.replace(EXACT_INDEX, mindir_candidates=learned.mindir_candidates),
        )
        if job.keep_thumbnails:
            keep_thumbnails(staging, learned.inputs, learned.bank)
        write_manifest(staging, learned.inputs, learned.calibration, facts)
