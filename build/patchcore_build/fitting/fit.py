"""Build an artifact: a folder of good images -> an artifact folder.

images -> exported network -> features -> coreset -> memory bank -> thresholds -> artifact.
All files are written to a folder beside the target, which is renamed at the end.
"""

import dataclasses
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchcore_build.backbone.device import open_device
from patchcore_build.backbone.network import Network, mindspore_network, onnx_network
from patchcore_build.coreset.checkpoint import clear_checkpoints
from patchcore_build.data.dataset import ImageFolder, list_images
from patchcore_build.data.training_inputs import Inputs, load_inputs
from patchcore_build.errors import DatasetError
from patchcore_build.export.checked import CellMaker, export_features
from patchcore_build.fitting.artifact_writer import (
    ArtifactFacts,
    keep_thumbnails,
    provenance,
    write_manifest,
)
from patchcore_build.fitting.checks import check_job
from patchcore_build.fitting.job import FitJob, FitReport
from patchcore_build.fitting.learn import Learned, Site, learn
from patchcore_build.fitting.learner import image_groups
from patchcore_build.progress import Stopwatch, progress_bar
from patchcore_build.signing import new_signed_folder
from patchcore_build.storage import Storage
from patchcore_build.weights.read import digest
from patchcore_runtime.artifact.folder import FEATURES_ONNX
from patchcore_runtime.artifact.writing import EXACT_INDEX
from patchcore_runtime.files.staging import scratch_folder
from patchcore_runtime.scoring.thresholds import few_images
from patchcore_runtime.stopping import held

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
    check_job(job, own_network=choose_network is None)
    clock = Stopwatch(after_stage)
    with (
        new_signed_folder(job.output, sign=job.sign) as staging,
        scratch_folder() as scratch,
    ):
        storage = Storage(scratch, budget_bytes=int(job.memory_budget_gb * _GIB))
        site = Site(job=job, staging=staging, scratch=scratch, storage=storage, clock=clock)
        report = _build(site, choose_network)
    if job.checkpoints is not None:
        clear_checkpoints(job.checkpoints)
    return dataclasses.replace(report, seconds=clock.seconds)


@dataclass(frozen=True, kw_only=True)
class _Exported:
    """The exported network."""

    open: Callable[[], Network]
    weights: dict[str, str]  # for provenance
    difference: dict[str, float]  # largest relative difference of each file from MindSpore


def _build(site: Site, choose_network: NetworkChooser | None) -> FitReport:
    """Run all steps of a fit and fill the staging folder.

    Each step frees memory that the next one does not need: MindSpore's cells before the features
    are computed, and the features before the artifact is tested.
    """
    job = site.job
    if job.network is None:
        with site.clock.shown("start MindSpore"):
            open_device(job.device, device_id=job.device_id, precision=job.config.precision)
        choose = choose_network or _named_network(site)
    folder = list_images(job.images) if isinstance(job.images, Path) else job.images
    inputs = _read(site, folder)
    if job.network is None:
        exported = _export_network(site, choose, inputs)
    else:
        exported = _export_own_network(site, job.network, inputs)
    learned = learn(site, exported.open, inputs)
    _write_artifact(site, learned, exported)
    return FitReport(
        artifact=job.output,
        images=len(learned.inputs.names) // learned.inputs.views,
        skipped=inputs.skipped,
        dropped=learned.dropped,
        left_out=folder.left_out,
        notes=inputs.notes,
        white_level=inputs.preprocessing.white_level,
        input_size=(inputs.preprocessing.height, inputs.preprocessing.width),
        tiles=inputs.grid.tiles,
        region_share=1.0 if inputs.roi is None else inputs.roi.share,
        foreground_share=learned.foreground_share,
        rows=learned.bank.rows,
        calibration=learned.calibration,
        export_difference=exported.difference,
        quantization=learned.quantization,
        warnings=tuple(_warnings(learned)),
    )


def _warnings(learned: Learned) -> Iterator[str]:
    """What a person should know about the thresholds before relying on them."""
    images = len(learned.inputs.names) // learned.inputs.views
    calibration = learned.calibration
    if 0 < calibration.images < images:
        yield (
            f"{images - calibration.images} of {images} images equal another one; equal images "
            f"are held out together and count once, so the thresholds come from "
            f"{calibration.images} images"
        )
    if calibration.images == 0:
        copies = f"{images} equal images, which count as one" if images > 1 else "one image"
        yield f"learned from {copies}: the thresholds are a guess; add good images"
    yield from few_images(calibration)


def _read(site: Site, folder: ImageFolder) -> Inputs:
    """Preprocess all training images."""
    job = site.job
    with site.clock.stage("read images"), progress_bar("images", "image") as progress:
        inputs = load_inputs(
            folder, job.config, site.storage, skip_bad=job.skip_bad, roi=job.roi, progress=progress
        )
    groups = image_groups(inputs, job.groups)  # raise errors before the long steps
    if not groups.any() and (job.review is not None or job.drop_suspects):
        raise DatasetError(
            "--review and --drop-suspects: expected at least two different images to compare, "
            f"got one among {len(inputs.names) // inputs.views}"
        )
    return inputs


def _export_network(site: Site, choose_network: NetworkChooser, inputs: Inputs) -> _Exported:
    """Write the network's files and compare them with MindSpore.

    On a CPU the exported graph computes all features from now on: ONNX Runtime is faster than
    MindSpore, and it scores images later. MindSpore's cells, which hold the parameters, are freed.
    """
    whitened = site.job.config.backbone == "scattering"
    with site.clock.stage("whitening" if whitened else "weights"):
        make_cell, weights = choose_network(site.job, inputs)
    with site.clock.shown("export"), held():
        difference = export_features(make_cell, site.staging, inputs, site.job.config)
        gc.collect()  # exported cells contain reference cycles
    if site.job.device == "cpu":
        path = site.staging / FEATURES_ONNX
        return _Exported(open=lambda: onnx_network(path), weights=weights, difference=difference)
    return _Exported(
        open=lambda: mindspore_network(make_cell()), weights=weights, difference=difference
    )


def _export_own_network(site: Site, network: Path, inputs: Inputs) -> _Exported:
    """Write features.onnx of the job's own network; there is no features.mindir."""
    from patchcore_build.export.own_export import export_own_network

    path, config = site.staging / FEATURES_ONNX, site.job.config
    pixels = np.ascontiguousarray(inputs.pixels[:2])
    with site.clock.shown("export"):
        gap = export_own_network(network, path, config, pixels, seed=config.seed)
    return _Exported(
        open=lambda: onnx_network(path),
        weights={"name": network.name, "sha256": digest(network)},
        difference={FEATURES_ONNX: gap},
    )


def _named_network(site: Site) -> NetworkChooser:
    """The network of the job; its weights are loaded now, before any image is read."""
    from patchcore_build.backbone.parameters import load_parameters, make_network

    config, loaded = site.job.config, None
    if config.backbone != "scattering":
        with site.clock.stage("weights"), progress_bar("weights", "byte") as progress:
            loaded = load_parameters(config, site.job.weights, progress=progress)

    def choose(job: FitJob, inputs: Inputs) -> tuple[CellMaker, dict[str, str]]:
        with progress_bar("whitening" if loaded is None else "network", "pair") as progress:
            return make_network(job.config, loaded, inputs, progress=progress)

    return choose


def _write_artifact(site: Site, learned: Learned, exported: _Exported) -> None:
    """Complete the staging folder: thumbnails, self-test, manifest, checksums."""
    job, staging = site.job, site.staging
    with site.clock.shown("write"):
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
