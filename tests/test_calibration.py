"""Laws of calibration: scores are held out, thresholds keep the false-alarm rate they promise."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.distance import cdist

from patchcore_build.calibration import (
    HeldOutScores,
    calibrate,
    conformal_threshold,
    score_held_out,
    split_folds,
)
from patchcore_build.config import make_config, plan_preprocessing
from patchcore_build.coreset import select_coreset
from patchcore_build.features import FeatureStore

C2, C3 = 4, 6


def small_config(**overrides):
    settings = {"resize_px": 64, "coreset_ratio": 1.0, "folds": 3, "neighbours": 2}
    return make_config("full-frame", **{**settings, **overrides})


def make_store(images, *, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    return FeatureStore(
        layer2=(1 + spread * rng.standard_normal((images, 8, 8, C2))).astype(np.float32),
        layer3=(1 + spread * rng.standard_normal((images, 4, 4, C3))).astype(np.float32),
        upsampling="bilinear",
    )


def held_out(store, config, folder, **options):
    size = plan_preprocessing(config, [(64, 64)])
    projected = np.empty((store.images * 64, C2 + C3), np.float32)
    store.project(np.eye(C2 + C3, dtype=np.float32), projected)
    return score_held_out(store, projected, config, size, folder=folder, **options)


def patches_of(store, image):
    """(64, C2 + C3) in float64, layer3 interpolated by SciPy."""
    y, x = np.mgrid[:8, :8]
    places = np.stack([(y + 0.5) / 2 - 0.5, (x + 0.5) / 2 - 0.5])
    fine = [
        map_coordinates(store.layer3[image, :, :, c].astype(float), places, order=1, mode="nearest")
        for c in range(C3)
    ]
    return np.concatenate([store.layer2[image], np.stack(fine, axis=2)], axis=2).reshape(64, -1)


@pytest.mark.parametrize("count", [2, 3, 10, 57])
@pytest.mark.parametrize("folds", [2, 5, 50])
def test_folds_hold_every_picture_once_in_parts_of_equal_size(count, folds):
    parts = list(split_folds(count, folds, seed=3))
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    sizes = [len(part) for part in parts]
    assert len(parts) == min(folds, count)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


def test_folds_depend_on_the_seed_alone():
    first, again, other = (
        [part.tolist() for part in split_folds(40, 5, seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("fpr", [0.5, 0.2, 0.1, 0.05, 0.01, 1e-6])
@pytest.mark.parametrize("count", [2, 9, 10, 19, 20, 99, 100, 250])
def test_the_threshold_is_the_order_statistic_of_its_definition(count, fpr):
    scores = np.random.default_rng(count).normal(size=count)
    # The smallest score with at least (n + 1)(1 - fpr) scores up to it; else the largest.
    wanted = (count + 1) * (1 - fpr) - 1e-9
    reached = [s for s in scores if (scores <= s).sum() >= wanted]
    assert conformal_threshold(scores, fpr) == min(reached, default=scores.max())


def test_99_scores_are_enough_for_one_percent_and_98_are_not_more_than_their_largest():
    scores = np.arange(1.0, 200)
    assert conformal_threshold(scores, 0.01) == 198  # ceil(200 * 0.99)
    assert conformal_threshold(scores[:99], 0.01) == 99
    assert conformal_threshold(scores[:98], 0.01) == 98


def test_a_higher_false_alarm_rate_never_raises_the_threshold():
    scores = np.random.default_rng(0).normal(size=83)
    thresholds = [conformal_threshold(scores, fpr) for fpr in np.linspace(0.001, 0.999, 200)]
    assert all(later <= earlier for earlier, later in pairwise(thresholds))
    assert thresholds[0] == scores.max()
    assert thresholds[-1] == scores.min()


@pytest.mark.parametrize(("count", "fpr"), [(19, 0.05), (99, 0.01), (60, 0.1), (200, 0.02)])
def test_a_fresh_good_score_lies_above_the_threshold_as_often_as_promised(count, fpr):
    trials = 20_000
    draws = np.random.default_rng(5).gamma(2.0, size=(trials, count + 1))
    thresholds = np.array([conformal_threshold(row[:-1], fpr) for row in draws])
    share = float((draws[:, -1] > thresholds).mean())
    error = 4 * math.sqrt(fpr * (1 - fpr) / trials)
    assert share <= fpr + error
    assert share >= fpr - 1 / (count + 1) - error  # not wastefully far below it


@pytest.mark.parametrize("image_score", ["max", "paper", "modelzoo"])
def test_scores_of_different_pictures_are_held_out_and_not_near_zero(tmp_path, image_score):
    scores = held_out(make_store(6), small_config(image_score=image_score), tmp_path)
    assert scores.image_scores.shape == (6,)
    assert scores.image_scores.min() > 0
    assert scores.map_maxima.min() > 0.5  # in the bank itself they would be exactly 0


@pytest.mark.parametrize("ratio", [1.0, 0.1])
def test_held_out_scores_equal_a_calculation_by_hand(tmp_path, ratio):
    store, config = make_store(5), small_config(coreset_ratio=ratio, folds=2, seed=4)
    scores = held_out(store, config, tmp_path)
    for part in split_folds(5, 2, seed=4):
        others = [image for image in range(5) if image not in part]
        bank = np.concatenate([patches_of(store, image) for image in others])
        count = max(1, round(ratio * len(bank)))
        bank = bank[select_coreset(bank.astype(np.float32), count, seed=4)]
        for image in part:
            nearest = cdist(patches_of(store, image), bank).min(axis=1)
            assert scores.image_scores[image] == pytest.approx(nearest.max(), rel=1e-4)


def test_a_twin_in_another_fold_gives_zero_and_one_in_the_same_fold_does_not(tmp_path):
    store = make_store(4)
    config = small_config(folds=2, seed=0)
    first, second = (part.tolist() for part in split_folds(4, 2, seed=0))
    twins = {}
    for name, pair in (("apart", (first[0], second[0])), ("together", first)):
        layer2, layer3 = store.layer2.copy(), store.layer3.copy()
        layer2[pair[1]], layer3[pair[1]] = layer2[pair[0]], layer3[pair[0]]
        copied = FeatureStore(layer2=layer2, layer3=layer3, upsampling="bilinear")
        twins[name] = held_out(copied, config, tmp_path).image_scores[list(pair)].max()
    assert twins["apart"] < 1e-4
    assert twins["together"] > 1


def test_progress_counts_every_picture(tmp_path):
    told = []
    held_out(make_store(5), small_config(), tmp_path, progress=lambda *step: told.append(step))
    assert told == [(done, 5) for done in range(1, 6)]


def test_pictures_that_are_all_equal_still_make_a_valid_calibration(tmp_path):
    config = small_config()
    calibration = calibrate(held_out(make_store(4, spread=0.0), config, tmp_path), config)
    assert 0 <= calibration.image_threshold < 1e-5
    assert calibration.heatmap.low < calibration.pixel_threshold < calibration.heatmap.high
    assert json.loads(json.dumps(calibration.image_score_quantiles))


def draw_scores(count, *, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    quiet = scale * rng.uniform(1, 2, count)
    return HeldOutScores(
        image_scores=scale * rng.gamma(3, size=count),
        map_maxima=quiet + scale * rng.gamma(2, size=count),
        quiet_levels=quiet,
    )


@pytest.mark.parametrize("fpr", [0.01, 0.1])
def test_each_threshold_is_made_of_its_own_scores(fpr):
    scores = draw_scores(150)
    calibration = calibrate(scores, small_config(target_fpr=fpr))
    assert calibration.image_threshold == conformal_threshold(scores.image_scores, fpr)
    assert calibration.pixel_threshold == conformal_threshold(scores.map_maxima, fpr)
    assert (calibration.images, calibration.folds, calibration.target_fpr) == (150, 3, fpr)
    assert calibration.heatmap.low == np.median(scores.quiet_levels)
    middle = (calibration.heatmap.low + calibration.heatmap.high) / 2
    assert middle == pytest.approx(calibration.pixel_threshold)


def test_fewer_pictures_than_folds_are_counted_as_they_are():
    assert calibrate(draw_scores(2), small_config(folds=50)).folds == 2


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_map_without_any_peak_keeps_the_threshold_above_the_dark_end(scale):
    flat = np.full(7, scale)
    scores = HeldOutScores(image_scores=flat, map_maxima=flat, quiet_levels=flat)
    calibration = calibrate(scores, small_config())
    assert calibration.heatmap.low < calibration.pixel_threshold < calibration.heatmap.high


def test_stored_quantiles_rise_and_end_at_the_extremes():
    scores = draw_scores(40)
    calibration = calibrate(scores, small_config())
    for stored, values in (
        (calibration.image_score_quantiles, scores.image_scores),
        (calibration.map_maximum_quantiles, scores.map_maxima),
    ):
        assert (stored[0], stored[-1]) == (values.min(), values.max())
        assert list(stored) == sorted(stored)
        assert len(stored) == len(calibration.quantile_levels)
