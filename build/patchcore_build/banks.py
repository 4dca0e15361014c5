"""Some of the training pictures -> their memory bank, ready to score.

What `fit` builds of all pictures, calibration builds of each fold's, with the same steps.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.config import Config, describe_features, scoring_rule
from patchcore_build.coreset import coreset_size, select_coreset
from patchcore_build.features import FeatureStore, make_bank
from patchcore_build.index_graph import write_bank
from patchcore_build.progress import Progress, silent
from patchcore_runtime.index import ExactIndex
from patchcore_runtime.manifest import Preprocessing
from patchcore_runtime.memory_bank import MemoryBank
from patchcore_runtime.patch_scorer import PatchScorer


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Features of the N training pictures, and what a bank of them is made with."""

    store: FeatureStore
    projected: NDArray[np.float32]  # (N·P, d)
    groups: NDArray[np.int64]  # (N,), equal where pictures belong together
    size: Preprocessing
    config: Config


def bank_of(
    pictures: Pictures, images: NDArray[np.int64] | None = None, progress: Progress = silent
) -> MemoryBank:
    """The memory bank of some pictures, of all where none are named, at the config's ratio.

    Args:
        pictures: All N of them.
        images: Numbers of those to learn from, ascending.
        progress: Told how many rows are picked.
    """
    store, config, projected = pictures.store, pictures.config, pictures.projected
    rows = None
    if images is not None:
        patches = store.patches_per_image
        rows = (images[:, None] * patches + np.arange(patches)).ravel()
        projected = projected[rows]
    count = coreset_size(len(projected), config.coreset_ratio)
    chosen = select_coreset(projected, count, seed=config.seed, progress=progress)
    if rows is not None:
        chosen = rows[chosen]
    return make_bank(store, chosen, config.neighbours, precision=config.bank_precision)


def open_scorer(pictures: Pictures, bank: MemoryBank, folder: Path) -> PatchScorer:
    """Score with a bank; its files go to `folder`, over those of the last one."""
    config, size = pictures.config, pictures.size
    features = describe_features(config, size, bank.channels)
    index = ExactIndex(write_bank(folder, bank, features))
    return PatchScorer(bank, index, features, scoring_rule(config, size))
