"""Held-out scores of the training images -> thresholds and the heat-map scale.

K-fold over images: a coreset of the other folds, at the final ratio, scores the images that are
held out. In-sample scores would be useless, because they are near zero for every image in the bank.
A fold's bank is leaner than the final one, so held-out scores are a little too large; banks of half
the images show by how much. `estimate` computes the thresholds, and `folds` keeps groups together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore_build.calibration.banks import TrainingFeatures, bank_of, choose_rows, open_scorer
from patchcore_build.calibration.estimate import (
    describe_scores,
    estimate_bias,
    find_threshold,
    stored_ranks,
)
from patchcore_build.calibration.folds import split_folds
from patchcore_build.calibration.gate import estimate_gate
from patchcore_build.config import Config
from patchcore_build.progress import Progress, silent
from patchcore_runtime.manifest.calibration import Calibration, HeatmapRange
from patchcore_runtime.scoring.gate import GateValues
from patchcore_runtime.scoring.thresholds import above_dark_end, check_rate

# Array for the scores, name of the checkpoint, images to learn from, images that are held out.
_Turn = tuple[NDArray[np.float64], str, NDArray[np.int64], NDArray[np.int64]]
SMALLEST_THRESHOLD = 1e-12  # if all images are equal
QUIET_SHARE = 0.9  # share of a good image's pixels below the dark end of the heat map


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutScores:
    """Scores of each counted training image, from banks without this image and its group.

    The `lean` scores come from banks of about half as many images. They show how scores shrink
    with the number of images.
    """

    image_scores: NDArray[np.float64]  # (n,)
    map_maxima: NDArray[np.float64]  # (n,)
    quiet_levels: NDArray[np.float64]  # (n,), the map's 90 % quantile
    lean_image_scores: NDArray[np.float64]  # (n,)
    lean_map_maxima: NDArray[np.float64]  # (n,)
    folds: int
    groups: int
    share: float  # of all images, in a bank of one fold
    lean_share: float  # of all images, in a lean bank
    gate: tuple[GateValues, ...] = ()  # of each counted image; empty if they were not measured


def score_held_out(
    training: TrainingFeatures, *, folder: Path, progress: Progress = silent
) -> HeldOutScores:
    """Score every training image with banks of other images.

    Args:
        training: The N training images in at least two groups.
        folder: Temporary folder for the folds' banks.
        progress: Called with the number of images done, of twice the number that counts.
    """
    config, count = training.config, training.store.images
    counted = np.arange(count) if training.counted is None else training.counted
    folds = list(split_folds(training.groups, config.folds, seed=config.seed))
    others = [np.setdiff1d(np.arange(count), held_out) for held_out in folds]
    # Lean banks have half the images; with two or three folds, where the other banks are not
    # much larger, they have a third.
    lean = list(split_folds(training.groups, 2 if len(folds) > 3 else 3, seed=config.seed))
    lean_others = [*lean[1:], lean[0]]
    full_scores, lean_scores = np.empty((2, count, 3))
    region = training.store.region
    inside = ... if region is None else region.pixels
    done, gate = 0, dict[int, GateValues]()
    for scores, name, learned, held_out in [
        *_turns(full_scores, "fold", others, folds),
        *_turns(lean_scores, "lean", lean, lean_others),
    ]:
        rows = choose_rows(training, learned, name=name)
        scorer = open_scorer(training, bank_of(training, rows), folder)
        for image in np.intersect1d(held_out, counted):
            result = scorer.score(training.store.as_network_output(int(image)))
            quiet = float(np.quantile(result.anomaly_map[inside], QUIET_SHARE))
            scores[image] = result.score, result.anomaly_map.max(), quiet
            gate.setdefault(int(image), result.gate)  # of the larger bank, which comes first
            done += 1
            progress(done, 2 * len(counted))
        del rows, scorer  # free memory before the next bank
    full_scores, lean_scores = full_scores[counted], lean_scores[counted]
    return HeldOutScores(
        image_scores=full_scores[:, 0],
        map_maxima=full_scores[:, 1],
        quiet_levels=full_scores[:, 2],
        lean_image_scores=lean_scores[:, 0],
        lean_map_maxima=lean_scores[:, 1],
        folds=len(folds),
        groups=len(np.unique(training.groups)),
        share=float(np.mean([len(learned) for learned in others])) / count,
        lean_share=float(np.mean([len(learned) for learned in lean])) / count,
        gate=tuple(gate[image] for image in counted),
    )


def _turns(
    scores: NDArray[np.float64],
    name: str,
    learned: Sequence[NDArray[np.int64]],
    held_out: Sequence[NDArray[np.int64]],
) -> Iterator[_Turn]:
    """One turn for each fold; checkpoints are numbered from 1."""
    for number, pair in enumerate(zip(learned, held_out, strict=True), start=1):
        yield scores, f"{name}{number}", *pair


def calibrate(scores: HeldOutScores, config: Config) -> Calibration:
    """Estimate thresholds for the target false-alarm rate from held-out scores.

    The pixel threshold is estimated like the image threshold, from the maxima of the maps: a share
    of about `target_fpr` of good images has any pixel above it. The heat map is dark up to the
    level below which nine tenths of a good image stay, and the pixel threshold is its middle.

    Raises:
        ThresholdError: so few images cannot support this rate.
    """
    count = len(scores.image_scores)
    check_rate(count, config.target_fpr)
    image_values, image_bias = _unbiased(scores, scores.image_scores, scores.lean_image_scores)
    pixel_values, pixel_bias = _unbiased(scores, scores.map_maxima, scores.lean_map_maxima)
    rate, seed, groups = config.target_fpr, config.seed, scores.groups
    image = find_threshold(image_values, rate, seed=seed, independent=groups)
    pixel = find_threshold(pixel_values, rate, seed=seed, independent=groups)
    low = pixel_bias * float(np.median(scores.quiet_levels))
    pixel_threshold = above_dark_end(pixel.value, low)
    image_threshold = max(image.value, SMALLEST_THRESHOLD)
    return Calibration(
        method=image.method,
        images=count,
        groups=scores.groups,
        folds=scores.folds,
        target_fpr=config.target_fpr,
        image_threshold=image_threshold,
        image_interval=(image.low, max(image.high, image_threshold)),
        pixel_threshold=pixel_threshold,
        pixel_interval=(pixel.low, max(pixel.high, pixel_threshold)),
        heatmap=HeatmapRange(low=low, high=2 * pixel_threshold - low),
        ranks=stored_ranks(count),
        image_scores=describe_scores(image_values, image_bias),
        map_maxima=describe_scores(pixel_values, pixel_bias),
        gate=estimate_gate(scores.gate),
    )


def _unbiased(
    scores: HeldOutScores, full: NDArray[np.float64], lean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Scores corrected to the final bank of all images, and the correction factor."""
    bias = estimate_bias(full, lean, share=scores.share, lean_share=scores.lean_share)
    return full * bias, bias
