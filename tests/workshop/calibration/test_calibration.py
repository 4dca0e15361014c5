"""Laws of calibration: scores are held out, thresholds keep the false-alarm rate they promise."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.distance import cdist

from patchcore_build.calibration.banks import TrainingFeatures
from patchcore_build.calibration.estimate import estimate_bias, find_threshold
from patchcore_build.calibration.folds import (
    every_image_alone,
    group_images,
    join_equal,
    split_folds,
)
from patchcore_build.calibration.held_out import HeldOutScores, calibrate, score_held_out
from patchcore_build.config import make_config, plan_preprocessing
from patchcore_build.coreset.cloud import PatchCloud
from patchcore_build.coreset.select import select_coreset
from patchcore_build.errors import DatasetError
from patchcore_build.features.store import FeatureStore
from patchcore_runtime.errors import ThresholdError

C2, C3 = 4, 6


def small_config(**overrides):
    settings = {"resize_px": 64, "coreset_ratio": 1.0, "folds": 3, "neighbours": 2}
    return make_config("full-frame", **{**settings, **overrides})


def make_store(images, *, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    return FeatureStore(
        layers=(
            (1 + spread * rng.standard_normal((images, 8, 8, C2))).astype(np.float32),
            (1 + spread * rng.standard_normal((images, 4, 4, C3))).astype(np.float32),
        ),
        upsampling="bilinear",
    )


def held_out(store, config, folder, *, groups=None, counted=None, **options):
    projected = np.empty((store.images * 64, C2 + C3), np.float32)
    store.project(np.eye(C2 + C3, dtype=np.float32), projected)
    training = TrainingFeatures(
        store=store,
        cloud=PatchCloud.of(projected),
        groups=every_image_alone(store.images) if groups is None else groups,
        size=plan_preprocessing(config, [(64, 64)]),
        config=config,
        counted=counted,
    )
    return score_held_out(training, folder=folder, **options)


def patches_of(store, image):
    """(64, C2 + C3) in float64, layer3 interpolated by SciPy."""
    y, x = np.mgrid[:8, :8]
    places = np.stack([(y + 0.5) / 2 - 0.5, (x + 0.5) / 2 - 0.5])
    fine = [
        map_coordinates(
            store.layers[1][image, :, :, c].astype(float), places, order=1, mode="nearest"
        )
        for c in range(C3)
    ]
    return np.concatenate([store.layers[0][image], np.stack(fine, axis=2)], axis=2).reshape(64, -1)


@pytest.mark.parametrize("count", [2, 3, 10, 57])
@pytest.mark.parametrize("folds", [2, 5, 50])
def test_folds_hold_every_image_once_in_parts_of_equal_size(count, folds):
    parts = list(split_folds(every_image_alone(count), folds, seed=3))
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    sizes = [len(part) for part in parts]
    assert len(parts) == min(folds, count)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


def test_folds_depend_on_the_seed_alone():
    first, again, other = (
        [part.tolist() for part in split_folds(every_image_alone(40), 5, seed=seed)]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_never_split_and_no_fold_is_empty(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 9, 60) * 7
    parts = list(split_folds(groups, 4, seed=seed))
    assert sorted(np.concatenate(parts).tolist()) == list(range(60))
    assert all(len(part) > 0 for part in parts)
    for one, part in enumerate(parts):
        for other in parts[one + 1 :]:
            assert set(groups[part]).isdisjoint(groups[other])


def test_groups_follow_the_first_group_of_the_pattern():
    names = ["a/part7_1.png", "a/part3_1.png", "b/part7_2.png"]
    assert group_images(names, r"(part\d+)_").tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"--groups \(: expected a regular expression"),
        ("part", r"--groups part: expected a group in brackets"),
        ("(bolt)", r"expected a match of its first group in every name, got none in part1.png"),
        ("(x)?part", r"expected a match of its first group in every name, got none in part1.png"),
        ("(part)", r"expected at least two groups .*all 2 images in one"),
    ],
)
def test_a_pattern_that_groups_nothing_is_refused(pattern, message):
    with pytest.raises(DatasetError, match=message) as caught:
        group_images(["part1.png", "part2.png"], pattern)
    assert "\n" not in str(caught.value)


def test_twins_in_one_group_are_held_out_together(tmp_path):
    store = make_store(8)
    layer2, layer3 = store.layers[0].copy(), store.layers[1].copy()
    layer2[4:], layer3[4:] = layer2[:4], layer3[:4]
    doubled = FeatureStore(layers=(layer2, layer3), upsampling="bilinear")
    config = small_config(folds=4)
    alone = held_out(doubled, config, tmp_path)
    grouped = held_out(doubled, config, tmp_path, groups=np.tile(np.arange(4), 2))
    assert alone.image_scores.min() < 1e-4
    assert grouped.image_scores.min() > 1
    assert (alone.groups, grouped.groups, grouped.folds) == (8, 4, 4)


def test_leaner_banks_give_larger_scores_of_the_same_images(tmp_path):
    scores = held_out(make_store(20), small_config(folds=5), tmp_path)
    assert scores.lean_share == pytest.approx(0.5)
    assert scores.share == pytest.approx(0.8)
    assert np.median(scores.lean_image_scores / scores.image_scores) > 1


@pytest.mark.parametrize("image_score", ["max", "map", "paper", "modelzoo"])
def test_scores_of_different_images_are_held_out_and_not_near_zero(tmp_path, image_score):
    scores = held_out(make_store(6), small_config(image_score=image_score), tmp_path)
    assert scores.image_scores.shape == (6,)
    assert scores.image_scores.min() > 0
    assert scores.map_maxima.min() > 0.5  # in the bank itself they would be exactly 0


@pytest.mark.parametrize("ratio", [1.0, 0.1])
def test_held_out_scores_equal_a_calculation_by_hand(tmp_path, ratio):
    store, config = make_store(5), small_config(coreset_ratio=ratio, folds=2, seed=4)
    scores = held_out(store, config, tmp_path)
    for part in split_folds(every_image_alone(5), 2, seed=4):
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
    first, second = (part.tolist() for part in split_folds(every_image_alone(4), 2, seed=0))
    twins = {}
    for name, pair in (("apart", (first[0], second[0])), ("together", first)):
        layer2, layer3 = store.layers[0].copy(), store.layers[1].copy()
        layer2[pair[1]], layer3[pair[1]] = layer2[pair[0]], layer3[pair[0]]
        copied = FeatureStore(layers=(layer2, layer3), upsampling="bilinear")
        twins[name] = held_out(copied, config, tmp_path).image_scores[list(pair)].max()
    assert twins["apart"] < 1e-4
    assert twins["together"] > 1


def test_progress_counts_every_image(tmp_path):
    told = []
    held_out(make_store(5), small_config(), tmp_path, progress=lambda *step: told.append(step))
    assert told == [(done, 10) for done in range(1, 11)]


def test_images_that_are_all_equal_still_make_a_valid_calibration(tmp_path):
    config = small_config()
    calibration = calibrate(held_out(make_store(4, spread=0.0), config, tmp_path), config)
    assert 0 <= calibration.image_threshold < 1e-5
    assert calibration.heatmap.low < calibration.pixel_threshold < calibration.heatmap.high
    assert json.loads(json.dumps(dataclasses.asdict(calibration)))


def draw_scores(count, *, seed=0, scale=1.0, shrink=1.0):
    rng = np.random.default_rng(seed)
    quiet = scale * rng.uniform(1, 2, count)
    image_scores = scale * rng.gamma(3, size=count)
    map_maxima = quiet + scale * rng.gamma(2, size=count)
    return HeldOutScores(
        image_scores=image_scores,
        map_maxima=map_maxima,
        quiet_levels=quiet,
        lean_image_scores=image_scores * shrink,
        lean_map_maxima=map_maxima * shrink,
        folds=min(count, 5),
        groups=count,
        share=0.8,
        lean_share=0.5,
    )


@pytest.mark.parametrize("fpr", [0.01, 0.1])
@pytest.mark.parametrize("shrink", [1.0, 1.1])
def test_each_threshold_is_made_of_its_own_unbiased_scores(fpr, shrink):
    scores = draw_scores(150, shrink=shrink)
    calibration = calibrate(scores, small_config(target_fpr=fpr))
    bias = estimate_bias(np.ones(150), np.full(150, shrink), share=0.8, lean_share=0.5)
    assert (bias == 1) == (shrink == 1)
    for stored, raw, threshold, interval in (
        (calibration.image_scores, scores.image_scores, calibration.image_threshold,
         calibration.image_interval),
        (calibration.map_maxima, scores.map_maxima, calibration.pixel_threshold,
         calibration.pixel_interval),
    ):  # fmt: skip
        assert stored.bias == pytest.approx(bias)
        np.testing.assert_allclose(stored.values, np.sort(raw) * bias)
        found = find_threshold(raw * stored.bias, fpr, seed=0)
        assert (threshold, interval) == (found.value, (found.low, found.high))
    assert (calibration.images, calibration.folds, calibration.target_fpr) == (150, 5, fpr)
    assert calibration.heatmap.low == pytest.approx(bias * np.median(scores.quiet_levels))
    middle = (calibration.heatmap.low + calibration.heatmap.high) / 2
    assert middle == pytest.approx(calibration.pixel_threshold)


def test_a_rate_that_so_few_images_say_nothing_about_is_refused():
    calibrate(draw_scores(6), small_config(target_fpr=0.0015))
    message = r"expected 0\.0014 to below 1, got 0\.0014; .* 6 images"
    with pytest.raises(ThresholdError, match=message):
        calibrate(draw_scores(6), small_config(target_fpr=0.0014))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_map_without_any_peak_keeps_the_threshold_above_the_dark_end(scale):
    flat = np.full(7, scale)
    scores = dataclasses.replace(
        draw_scores(7), image_scores=flat, map_maxima=flat, quiet_levels=flat
    )
    calibration = calibrate(scores, small_config())
    assert calibration.heatmap.low < calibration.pixel_threshold < calibration.heatmap.high


def test_equal_images_belong_to_one_group_whatever_their_names_say():
    parts = np.array([0, 0, 1, 1, 2])
    first = np.array([0, 1, 2, 1, 4])  # image 3 equals image 1, so both of their parts are joined
    assert join_equal(parts, first).tolist() == [0, 0, 0, 0, 1]
    assert join_equal(np.arange(4), np.arange(4)).tolist() == [0, 1, 2, 3]
    assert join_equal(np.arange(10), np.zeros(10, np.int64)).tolist() == [0] * 10  # one image
    with pytest.raises(DatasetError, match=r"two groups of images .* got 2 different images, all"):
        join_equal(np.array([0, 1, 1]), np.array([0, 0, 2]))


def test_copies_count_once_and_no_bank_has_seen_the_image_that_it_scores(tmp_path):
    store, config = make_store(4), small_config(folds=2)
    once = calibrate(held_out(store, config, tmp_path), config)
    copies = np.array([0, 1, 2, 3, 0, 1, 0])
    more = dataclasses.replace(store, layers=(store.layers[0][copies], store.layers[1][copies]))
    groups = join_equal(np.arange(7), copies)
    options = {"groups": groups, "counted": np.unique(copies)}
    scores = held_out(more, config, tmp_path, **options)
    assert (scores.image_scores > 1).all()  # a bank with a copy would give 0
    found = calibrate(scores, config)
    assert (found.images, found.groups) == (once.images, once.groups) == (4, 4)
    assert found.image_interval[0] < found.image_threshold < found.image_interval[1]


def test_few_images_have_a_wide_interval_that_narrows_with_more_of_them():
    rng, narrower = np.random.default_rng(4), np.inf
    for count in (2, 5, 10, 29):
        hits, widths = [], []
        for seed in range(60):
            found = find_threshold(np.exp(0.1 * rng.standard_normal(count)), 0.01, seed=seed)
            hits.append(found.low <= np.exp(0.1 * 2.3263) <= found.high)
            widths.append(found.high - found.low)
        assert np.mean(hits) >= 0.75, count
        assert np.median(widths) < narrower
        narrower = np.median(widths)


def test_equal_scores_have_no_interval_of_width_zero():
    found = find_threshold(np.full(10, 2.0), 0.01, seed=0)
    assert found.low <= found.value == pytest.approx(2.0)
    assert found.high - found.low > 0.1


def test_the_interval_of_parts_is_that_of_the_number_of_parts():
    scores = np.exp(0.1 * np.random.default_rng(0).standard_normal(60))
    alone, of_parts = (find_threshold(scores, 0.01, seed=0, independent=n) for n in (60, 6))
    assert alone.value == of_parts.value
    assert of_parts.high > 1.2 * alone.high
