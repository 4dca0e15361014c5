"""Some of the training images -> their memory bank, ready to score.

`fit` builds a bank of all images, and calibration builds one for each fold, with the same steps.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.config import Config, plan_layout, scoring_rule
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
    """Features of the N training images, and the settings for their memory bank."""

    store: FeatureStore
    cloud: PatchCloud  # of their random projection, (N·P, d); all banks share it
    groups: NDArray[np.int64]  # (N,), equal numbers for images that belong together
    size: Preprocessing
    config: Config
    checkpoints: Path | None = None  # folder for unfinished coresets
    # Images whose scores count, ascending: one of each set of equal images; None: all.
    counted: NDArray[np.int64] | None = None


def choose_rows(
    training: TrainingFeatures,
    images: NDArray[np.int64] | None = None,
    *,
    name: str,
    progress: Progress = silent,
) -> NDArray[np.int64]:
    """Choose the patch rows of a memory bank.

    Args:
        training: Features of all N images.
        images: Numbers of the images to learn from; all images by default.
        name: Name of the checkpoint, different for every choice of images.
        progress: Called with the number of rows that are picked.

    Returns:
        Row numbers in the order in which they were picked, (M,).
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
    """The memory bank of some patch rows, in the precision of the settings."""
    config = training.config
    return make_bank(training.store, rows, config.neighbours, precision=config.bank_precision)


def open_scorer(training: TrainingFeatures, bank: MemoryBank, folder: Path) -> PatchScorer:
    """A scorer for a bank; its files overwrite those of an earlier bank in `folder`."""
    config, size = training.config, training.size
    layout = plan_layout(config, size, bank.channels)
    index = ExactIndex(write_bank(folder, bank, layout), bank, layout)
    rule, region = scoring_rule(config, size), training.store.region
    return PatchScorer(
        bank, index, layout, rule, grid=training.store.grid, region=region, learned=region
    )
