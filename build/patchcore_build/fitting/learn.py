"""The part of a fit between the exported network and the artifact: learn from the images.

inputs + network -> memory bank with its index, thresholds, statistics of normal images.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_build.backbone.network import Network
from patchcore_build.calibration.banks import TrainingFeatures
from patchcore_build.config import plan_layout
from patchcore_build.data.training_inputs import Inputs
from patchcore_build.export.checked import export_shortlist
from patchcore_build.features.normal_images import describe_normal
from patchcore_build.features.store import FeatureStore
from patchcore_build.fitting.float32_twin import Float32Twin
from patchcore_build.fitting.job import FitJob
from patchcore_build.fitting.learner import Learner, without
from patchcore_build.progress import Stopwatch
from patchcore_build.storage import Storage
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.manifest.calibration import Calibration
from patchcore_runtime.manifest.monitoring import Monitoring
from patchcore_runtime.search.exact import ExactIndex
from patchcore_runtime.search.exact_graph import write_bank
from patchcore_runtime.stopping import held


@dataclass(frozen=True, kw_only=True)
class Site:
    """The job of a fit, the folder that becomes the artifact, and storage for arrays."""

    job: FitJob
    staging: Path
    scratch: Path
    storage: Storage
    clock: Stopwatch


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """Everything learned from the images, without their features."""

    inputs: Inputs
    dropped: tuple[str, ...]
    bank: MemoryBank
    mindir_candidates: int  # rows that index.mindir gives for a patch
    calibration: Calibration
    monitoring: Monitoring
    foreground_share: float  # of the training images' patches; 1 without a mask
    quantization: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Selection:
    """The images that a bank is made of, and its rows."""

    inputs: Inputs
    training: TrainingFeatures
    rows: NDArray[np.int64]
    dropped: tuple[str, ...] = ()


def learn(site: Site, open_network: Callable[[], Network], inputs: Inputs) -> Learned:
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
    with site.clock.shown("calibration"):
        monitoring = describe_normal(
            selection.inputs.pixels, selection.training.store, views=selection.inputs.views
        )
    return Learned(
        inputs=selection.inputs,
        dropped=selection.dropped,
        bank=bank,
        mindir_candidates=candidates,
        calibration=calibration,
        monitoring=monitoring,
        foreground_share=_foreground_share(job, selection.training.store),
        quantization=None if twin is None else twin.facts,
    )


def _foreground_share(job: FitJob, store: FeatureStore) -> float:
    """The share of patches that are not masked, which are zero vectors."""
    if job.config.foreground == "none":
        return 1.0
    first = (store.as_network_output(image)[0] for image in range(store.images))
    return float(np.mean([(layer != 0).any(axis=1).mean() for layer in first]))


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
    with learner.clock.shown("quantize"):
        network = twin.quantize(bank)
    store = learner.features(network, selection.inputs)
    training = dataclasses.replace(selection.training, store=store)
    return dataclasses.replace(selection, training=training)


def _write_index(site: Site, bank: MemoryBank, training: TrainingFeatures) -> int:
    """Write the bank and its graphs; return how many rows index.mindir lists for a patch."""
    config = training.config
    with site.clock.shown("write"):
        layout = plan_layout(config, training.size, bank.channels)
        index_path = write_bank(site.staging, bank, layout)
    if config.feature_precision == "int8" or config.network is not None:
        return 0
    with site.clock.shown("export"), held():
        index = ExactIndex(index_path, bank, layout, threads=1)
        return export_shortlist(site.staging, bank, index, training.store, layout)
