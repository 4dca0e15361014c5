"""Write a detector of another library as an artifact that scores like it.

Original + a folder of good images -> artifact folder.

Rows, network, preprocessing, score and thresholds are the original's. The good images give what it
lacks: the self-test, and the statistics by which a line is monitored. They are not learned.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone.device import open_device
from patchcore_build.backbone.network import onnx_network
from patchcore_build.calibration.held_out import QUIET_SHARE
from patchcore_build.config import Config, plan_layout
from patchcore_build.data.dataset import list_images
from patchcore_build.data.training_inputs import Inputs, load_inputs
from patchcore_build.errors import ModelError, require
from patchcore_build.export.checked import export_features, export_shortlist
from patchcore_build.features.normal_images import describe_normal
from patchcore_build.features.store import FeatureStore, extract_features
from patchcore_build.fitting.artifact_writer import ArtifactFacts, plan_manifest, provenance
from patchcore_build.fitting.selftest_image import write_selftest
from patchcore_build.imports.original import Original, Thresholds
from patchcore_build.imports.thresholds import calibration_of, estimated
from patchcore_build.progress import progress_bar
from patchcore_build.signing import new_signed_folder
from patchcore_build.storage import Storage
from patchcore_build.weights.match import match_weights
from patchcore_runtime.artifact.folder import FEATURES_ONNX, Artifact
from patchcore_runtime.artifact.writing import EXACT_INDEX, check_new_folder, seal
from patchcore_runtime.bank.memory_bank import UNKNOWN_ORIGIN, MemoryBank, squared_lengths
from patchcore_runtime.bank.neighbours import nearest_rows
from patchcore_runtime.detector import Detector
from patchcore_runtime.files.staging import scratch_folder
from patchcore_runtime.manifest.calibration import Calibration
from patchcore_runtime.manifest.manifest import Manifest
from patchcore_runtime.scoring.gate import GateValues, measure_gate
from patchcore_runtime.scoring.thresholds import few_images
from patchcore_runtime.search.exact import ExactIndex
from patchcore_runtime.search.exact_graph import write_bank
from patchcore_runtime.stopping import held

_BUDGET_BYTES = 8 * 2**30  # larger arrays are stored in files below TMPDIR


@dataclass(frozen=True, kw_only=True)
class ImportJob:
    """Good images, thresholds and output of an import."""

    # Folder of two or more good images.
    images: Path
    # What the images show; a name for people.
    category: str
    # Artifact folder to create; it must not exist.
    output: Path
    # In place of the original's thresholds; None: take over those of the original.
    thresholds: Thresholds | None = None
    # False-alarm rate of thresholds that are estimated from the good images, which the original
    # must not have learned; None: the thresholds above.
    target_fpr: float | None = None
    # PEM file of the ed25519 private key that signs the artifact.
    sign: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """Figures of an imported artifact."""

    artifact: Path
    library: str
    backbone: str
    rows: int
    channels: tuple[int, ...]  # of a row, for each layer
    input_size: tuple[int, int]  # height, width in pixels
    calibration: Calibration
    images: int  # good images
    score_range: tuple[float, float]  # of the good images
    alarms: int  # good images above the threshold
    export_difference: dict[str, float]
    warnings: tuple[str, ...]


def import_detector(original: Original, job: ImportJob) -> ImportReport:
    """Write the artifact.

    Raises:
        PatchCoreError: one of its kinds, if the original has no thresholds and none are given, its
            weights or rows do not fit its network, an image is unreadable, or the output cannot be
            written; no files are left behind.
    """
    check_new_folder(job.output)
    calibration = _first_calibration(original, job)
    open_device()
    config = config_of(original)
    bank, make_cell = _bank_and_network(original, config)
    folder = list_images(job.images)
    with new_signed_folder(job.output, sign=job.sign) as staging, scratch_folder() as scratch:
        storage = Storage(scratch, budget_bytes=_BUDGET_BYTES)
        with progress_bar("images", "image") as progress:
            inputs = load_inputs(
                folder, config, storage, frame=original.preprocess, progress=progress
            )
        height, width = inputs.grid.tile_px
        sized = partial(make_cell, height=height, width=width)
        with held():
            difference = export_features(sized, staging, inputs, config)
        store = _features(staging, inputs, config, storage)
        candidates = _write_index(staging, bank, store, config, inputs)
        facts = ArtifactFacts(
            category=job.category,
            config=config,
            monitoring=describe_normal(inputs.pixels, store),
            provenance=provenance(staging, weights={"name": f"of {original.library}"}, device="cpu")
            | {"imported": original.provenance},
            index=dataclasses.replace(EXACT_INDEX, mindir_candidates=candidates),
        )
        manifest = _corrected(plan_manifest(staging, inputs, calibration, facts), original)
        scores, gate = _score(Detector(Artifact(staging, manifest)), inputs)
        if job.target_fpr is not None:
            counted = np.unique(inputs.first_equal)
            calibration = estimated(
                scores[counted], [gate[image] for image in counted], job.target_fpr
            )
            manifest = dataclasses.replace(manifest, calibration=calibration)
        detector = Detector(Artifact(staging, manifest))
        selftest = write_selftest(staging, detector, inputs.paths[len(inputs.paths) // 2])
        seal(staging, dataclasses.replace(manifest, selftest=selftest))
    return ImportReport(
        artifact=job.output,
        library=original.library,
        backbone=original.backbone,
        rows=bank.rows,
        channels=bank.channels,
        input_size=(height, width),
        calibration=calibration,
        images=len(scores),
        score_range=(float(scores[:, 0].min()), float(scores[:, 0].max())),
        alarms=int((scores[:, 0] > calibration.image_threshold).sum()),
        export_difference=difference,
        warnings=(*original.notes, *few_images(calibration)),
    )


def _first_calibration(original: Original, job: ImportJob) -> Calibration:
    """The thresholds that are given or the original's; a stand-in if they will be estimated.

    Raises:
        ModelError: there are none.
    """
    found = job.thresholds or original.thresholds
    if job.target_fpr is not None:
        found = Thresholds(image=1.0, pixel=1.0, low=0.0, high=2.0, method="not estimated yet")
    if found is None:
        raise ModelError(
            f"{original.source}: thresholds: expected them in the file, or --threshold and "
            "--pixel-threshold, or --target-fpr, got none"
        )
    return calibration_of(found)


def config_of(original: Original) -> Config:
    """The settings of the original's network; its frame and score are beyond a config."""
    return Config(
        recipe=f"import {original.library}",
        frame="whole",
        resize_px=min(max(original.preprocess.resize_height, 64), 4096),
        crop_px=0,
        resample_filter=original.preprocess.filter,
        upsampling="bilinear",
        pooling_border="counted",
        image_score="max",
        backbone=original.backbone,
        layers=original.layers,
        neighbourhood=original.neighbourhood,
        pool_to=original.pool_to,
    )


def _bank_and_network(original: Original, config: Config) -> tuple[MemoryBank, Callable[..., Any]]:
    """The rows cut into layers, and a function that makes the network for an input's size.

    Raises:
        ModelError: the rows have not as many numbers as the layers channels.
        WeightsError: the weights are of another network.
    """
    from patchcore_build.backbone.extractor import expected_shapes, make_body, make_extractor

    expected = expected_shapes(original.backbone, original.layers)
    weights = match_weights(original.weights, expected, source=original.source)
    count = len(original.layers)
    channels = make_body(original.backbone, original.layers).channels
    if original.pool_to:
        channels = (original.pool_to // count,) * count
    columns = original.rows.shape[1]
    require(
        sum(channels) == columns,
        f"{original.source}: memory bank",
        f"rows of {sum(channels)} numbers for {' '.join(original.layers)} of {original.backbone}",
        columns,
        error=ModelError,
    )
    norms = squared_lengths(original.rows)
    parts = np.split(original.rows, np.cumsum(channels)[:-1], axis=1)
    bank = MemoryBank(
        layers=tuple(np.ascontiguousarray(part) for part in parts),
        norms=norms,
        origins=np.full((len(norms), 3), UNKNOWN_ORIGIN, np.int32),
        neighbours=nearest_rows(original.rows, norms, original.neighbours),
    )
    return bank, partial(make_extractor, config, weights)


def _features(staging: Path, inputs: Inputs, config: Config, storage: Storage) -> FeatureStore:
    with progress_bar("features", "image") as progress:
        store = extract_features(
            onnx_network(staging / FEATURES_ONNX),
            inputs.pixels,
            upsampling=config.upsampling,
            storage=storage,
            progress=progress,
        )
    return dataclasses.replace(store, grid=inputs.grid)


def _write_index(
    staging: Path, bank: MemoryBank, store: FeatureStore, config: Config, inputs: Inputs
) -> int:
    """Write the bank and its graphs; return how many rows index.mindir lists for a patch."""
    layout = plan_layout(config, inputs.preprocessing, bank.channels)
    index_path = write_bank(staging, bank, layout)
    with held():
        index = ExactIndex(index_path, bank, layout, threads=1)
        return export_shortlist(staging, bank, index, store, layout)


def _corrected(planned: Manifest, original: Original) -> Manifest:
    """The manifest of a fit with what an import knows instead: scoring, training, settings."""
    return dataclasses.replace(
        planned,
        scoring=original.scoring,
        training=dataclasses.replace(
            planned.training,
            images=(),
            digest=hashlib.sha256(b"").hexdigest(),
        ),
        config={
            "recipe": f"import {original.library}",
            "backbone": original.backbone,
            "layers": list(original.layers),
            "neighbourhood": original.neighbourhood,
            "pool_to": original.pool_to,
            "neighbours": original.neighbours,
        },
    )


def _score(detector: Detector, inputs: Inputs) -> tuple[NDArray[np.float64], list[GateValues]]:
    """Score, largest map value and quiet level of every good image, (N, 3); and for the gate."""
    scores, gate = np.empty((len(inputs.paths), 3)), []
    with progress_bar("scores", "image") as progress:
        for number, path in enumerate(inputs.paths):
            result = detector.predict(path)
            quiet = np.quantile(result.anomaly_map, QUIET_SHARE)
            scores[number] = result.score, result.anomaly_map.max(), quiet
            gate.append(measure_gate(result.patch_distances, result.nearest_rows))
            progress(number + 1, len(scores))
    return scores, gate
