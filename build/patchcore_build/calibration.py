"""Held-out scores of the training pictures -> thresholds and the heat-map scale.

K-fold over pictures: a coreset of the other folds at the final ratio scores the pictures left
out. In-sample scores are near zero for whatever is in the bank and would say nothing. The
threshold is a conformal order statistic: of n held-out scores the ceil((n + 1)(1 - fpr))-th
smallest bounds the false-alarm rate by `fpr` (Vovk et al. 2005), as far as n allows.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.config import Config, describe_features, plan_grid, scoring_rule
from patchcore_build.coreset import coreset_size, select_coreset
from patchcore_build.coreset_checkpoint import checkpoint_in
from patchcore_build.features import FeatureStore, make_bank
from patchcore_build.index_graph import write_bank
from patchcore_build.patch_cloud import PatchCloud
from patchcore_build.progress import Progress, silent
from patchcore_runtime.index import ExactIndex
from patchcore_runtime.manifest import Calibration, HeatmapRange, Preprocessing
from patchcore_runtime.memory_bank import MemoryBank
from patchcore_runtime.patch_scorer import PatchScorer
from patchcore_runtime.region import Region

QUANTILE_LEVELS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_QUIET_SHARE = 0.9  # of a good picture's pixels lie below the heat map's dark end


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutScores:
    """One value per training picture, from a bank that never saw it."""

    image_scores: NDArray[np.float64]  # (N,)
    map_maxima: NDArray[np.float64]  # (N,)
    quiet_levels: NDArray[np.float64]  # (N,), the map's 90 % quantile


def score_held_out(  # noqa: PLR0913 - a kept folder and a passing one are two things
    store: FeatureStore,
    projected: NDArray[np.float32] | PatchCloud,
    config: Config,
    size: Preprocessing,
    *,
    folder: Path,
    checkpoints: Path | None = None,
    progress: Progress = silent,
) -> HeldOutScores:
    """Score every training picture with a bank of the other folds.

    Args:
        store: Features of the N training pictures, N >= 2.
        projected: Their random projection, (N·P, d), or a cloud of it, which all folds share.
        config: Folds, seed, coreset ratio and scoring rule.
        size: The input's geometry.
        folder: For the folds' banks; may be emptied afterwards.
        checkpoints: Folder where unfinished coresets are kept, each in a file of its own.
        progress: Told how many pictures are done.
    """
    cloud = projected if isinstance(projected, PatchCloud) else PatchCloud.of(projected)
    scores = np.empty((store.images, 3))
    done = 0
    folds = split_folds(store.images, config.folds, seed=config.seed)
    for number, held_out in enumerate(folds, start=1):
        rows = store.rows_of(np.setdiff1d(np.arange(store.images), held_out))
        chosen = select_coreset(
            cloud,
            coreset_size(len(rows), config.coreset_ratio),
            seed=config.seed,
            rows=rows,
            checkpoint=checkpoint_in(checkpoints, f"fold{number}"),
        )
        bank = make_bank(store, chosen, config.neighbours, precision=config.bank_precision)
        scorer = _open_scorer(bank, config, size, store.region, folder)
        for image in held_out:
            result = scorer.score(*store.as_network_output(int(image)))
            inside = result.anomaly_map[... if store.region is None else store.region.pixels]
            quiet = float(np.quantile(inside, _QUIET_SHARE))
            scores[image] = result.score, result.anomaly_map.max(), quiet
            done += 1
            progress(done, store.images)
    return HeldOutScores(
        image_scores=scores[:, 0], map_maxima=scores[:, 1], quiet_levels=scores[:, 2]
    )


def split_folds(count: int, folds: int, *, seed: int) -> Iterator[NDArray[np.int64]]:
    """Picture numbers of each fold; a seeded shuffle, sizes differ by one at most."""
    order = np.random.default_rng(seed).permutation(count)
    yield from (np.sort(part) for part in np.array_split(order, min(folds, count)))


def _open_scorer(
    bank: MemoryBank, config: Config, size: Preprocessing, region: Region | None, folder: Path
) -> PatchScorer:
    features = describe_features(config, size, bank.channels)
    index = ExactIndex(write_bank(folder, bank, features))
    grid, rule = plan_grid(config, size), scoring_rule(config, size)
    return PatchScorer(bank, index, features, rule, grid=grid, region=region)


def calibrate(scores: HeldOutScores, config: Config) -> Calibration:
    """Turn held-out scores into thresholds at the target false-alarm rate.

    The pixel threshold is the same order statistic of the maps' maxima, so that in a share of
    about `target_fpr` of good pictures any pixel lies above it. The heat map's dark end is the
    level below which nine tenths of a good picture stay; the pixel threshold is its middle.
    """
    images = len(scores.image_scores)
    low = float(np.median(scores.quiet_levels))
    pixel_threshold = conformal_threshold(scores.map_maxima, config.target_fpr)
    pixel_threshold = max(pixel_threshold, low + 1e-6 * max(1.0, abs(low)))
    return Calibration(
        method="held-out order statistic",
        images=images,
        folds=min(config.folds, images),
        target_fpr=config.target_fpr,
        image_threshold=conformal_threshold(scores.image_scores, config.target_fpr),
        pixel_threshold=pixel_threshold,
        heatmap=HeatmapRange(low=low, high=2 * pixel_threshold - low),
        quantile_levels=QUANTILE_LEVELS,
        image_score_quantiles=_quantiles(scores.image_scores),
        map_maximum_quantiles=_quantiles(scores.map_maxima),
    )


def conformal_threshold(scores: NDArray[np.float64], target_fpr: float) -> float:
    """The ceil((n + 1)(1 - fpr))-th smallest score; the largest where n is too small for it."""
    rank = math.ceil((len(scores) + 1) * (1 - target_fpr) - 1e-9)
    return float(np.sort(scores)[min(rank, len(scores)) - 1])


def _quantiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, QUANTILE_LEVELS))
