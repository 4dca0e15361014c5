"""Some of the training images -> their memory bank, ready to score.

What `fit` builds of all images, calibration builds of each fold's, with the same steps.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.config import Config, describe_features, scoring_rule
from patchcore_build.coreset.checkpoint import checkpoint_in
from patchcore_build.coreset.cloud import PatchCloud
from patchcore_build.coreset.select import coreset_size, select_coreset
from patchcore_build.features.store import FeatureStore, make_bank
from patchcore_build.progress import Progress, silent
from patchcore_runtime.bank.memory_bank import MemoryBank
from patchcore_runtime.manifest.manifest import Preprocessing
from patchcore_runtime.scoring.patch_scorer import PatchScorer
from patchcore_runtime.search.exact import ExactIndex
from patchcore_runtime.search.exact_graph import write_bank


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingFeatures:
    """Features of the N training images, and what a bank of them is made with."""

    store: FeatureStore
    cloud: PatchCloud  # of their random projection, (N·P, d); all banks share it
    groups: NDArray[np.int64]  # (N,), equal where images belong together
    size: Preprocessing
    config: Config
    checkpoints: Path | None = None  # folder where unfinished coresets are kept


def choose_rows(
    training: TrainingFeatures,
    images: NDArray[np.int64] | None = None,
    *,
    name: str,
    progress: Progress = silent,
) -> NDArray[np.int64]:
    """Patch rows for a memory bank of some images, of all where none are named.

    Args:
        training: Features of all N images.
        images: Numbers of those to learn from.
        name: Of the bank's checkpoint; another one for every choice of images.
        progress: Told how many rows are picked.
    """
    store, config = training.store, training.config
    everything = images is None and store.region is None
    rows = None
    if not everything:
        rows = store.rows_of(np.arange(store.images) if images is None else images)
    count = store.images * store.patches_per_image if rows is None else len(rows)
    return select_coreset(
        training.cloud,
        coreset_size(count, config.coreset_ratio),
        seed=config.seed,
        rows=rows,
        checkpoint=checkpoint_in(training.checkpoints, name),
        progress=progress,
    )


def bank_of(training: TrainingFeatures, rows: NDArray[np.int64]) -> MemoryBank:
    """The memory bank of some patch rows, as the settings want it stored."""
    config = training.config
    return make_bank(training.store, rows, config.neighbours, precision=config.bank_precision)


def open_scorer(training: TrainingFeatures, bank: MemoryBank, folder: Path) -> PatchScorer:
    """Score with a bank; its files go to `folder`, over those of the last one."""
    config, size = training.config, training.size
    features = describe_features(config, size, bank.channels)
    index = ExactIndex(write_bank(folder, bank, features))
    rule, region = scoring_rule(config, size), training.store.region
    return PatchScorer(bank, index, features, rule, grid=training.store.grid, region=region)
