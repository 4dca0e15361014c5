"""Laws of suspects: an image is judged by the others, and what is dropped is said."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from patchcore_build.calibration.banks import TrainingFeatures, bank_of, choose_rows, open_scorer
from patchcore_build.calibration.folds import every_image_alone
from patchcore_build.calibration.suspects import choose_suspects, leave_one_out
from patchcore_build.config import make_config, plan_preprocessing
from patchcore_build.coreset.cloud import PatchCloud
from patchcore_build.errors import DatasetError
from patchcore_build.features.store import FeatureStore, keep_images
from patchcore_runtime.image.region import Region

NAMES = tuple(f"{number:03}.png" for number in range(200))


def make_images(images, *, groups=None, ratio=0.2, seed=0):
    rng = np.random.default_rng(seed)
    store = FeatureStore(
        layers=(
            rng.standard_normal((images, 8, 8, 4)).astype(np.float32),
            rng.standard_normal((images, 4, 4, 6)).astype(np.float32),
        ),
        upsampling="bilinear",
    )
    projected = np.empty((images * 64, 10), np.float32)
    store.project(np.eye(10, dtype=np.float32), projected)
    config = make_config("full-frame", resize_px=64, coreset_ratio=ratio, neighbours=2)
    return TrainingFeatures(
        store=store,
        cloud=PatchCloud.of(projected),
        groups=every_image_alone(images) if groups is None else groups,
        size=plan_preprocessing(config, [(64, 64)]),
        config=config,
    )


@pytest.mark.parametrize("groups", [None, np.array([0, 1, 0, 2, 2, 1])])
def test_an_image_is_scored_by_rows_of_other_groups_only(groups, tmp_path):
    training = make_images(6, groups=groups)
    bank = bank_of(training, choose_rows(training, name="bank"))
    found = leave_one_out(training, bank, open_scorer(training, bank, tmp_path))
    rows = np.hstack([bank.layers[0], bank.layers[1]])
    group_of_row = training.groups[bank.origins[:, 0]]
    patches = training.cloud.features.reshape(6, 64, 10)  # the identity's projection
    for image in range(6):
        others = rows[group_of_row != training.groups[image]]
        expected = cdist(patches[image], others).min(axis=1)
        np.testing.assert_allclose(found.distances[image].ravel(), expected, rtol=1e-4)
        assert found.scores[image] == found.distances[image].max()


def test_patches_outside_of_the_region_never_make_an_image_suspicious(tmp_path):
    inside = np.zeros((64, 64), np.bool_)
    inside[16:48, 8:56] = True
    region = Region.of(inside, 8)
    plain = make_images(5)
    for layer in (plain.store.layers[0], plain.store.layers[1]):
        layer[:, 0] = 0.0  # a row of patches outside, which is equal in all images
        layer[2, 0] = 50.0  # but for one
    training = dataclasses.replace(plain, store=dataclasses.replace(plain.store, region=region))
    everywhere = bank_of(plain, choose_rows(plain, name="bank"))
    found = leave_one_out(training, everywhere, open_scorer(training, everywhere, tmp_path))
    assert not found.distances[:, ~region.patches].any()
    rows = np.hstack([everywhere.layers[0], everywhere.layers[1]])
    patches = np.hstack(training.store.take(np.arange(5 * 64))).reshape(5, 64, 10)
    for image in range(5):
        others = rows[everywhere.origins[:, 0] != image]
        expected = cdist(patches[image, region.patches.ravel()], others).min(axis=1)
        np.testing.assert_allclose(found.distances[image][region.patches], expected, rtol=1e-4)
        assert found.scores[image] == pytest.approx(expected.max(), rel=1e-4)


def clean_scores(count, seed=0):
    return np.random.default_rng(seed).lognormal(0.0, 0.2, count)


def test_auto_finds_what_stands_out_and_says_how_far():
    scores = clean_scores(100)
    scores[[7, 70]] = 6.0, 9.0
    suspects = choose_suspects(scores, NAMES[:100], "auto")
    assert [suspect.image for suspect in suspects] == [70, 7]
    assert suspects[0].reason.startswith("070.png: ")
    assert f"{9 / np.median(scores):.2f} times as far" in suspects[0].reason


def test_auto_seldom_drops_a_clean_image():
    dropped = [len(choose_suspects(clean_scores(200, seed), NAMES, "auto")) for seed in range(100)]
    assert sum(dropped) <= 20  # of 20,000


def test_auto_drops_a_tenth_at_most():
    scores = np.ones(100) + np.linspace(0, 1e-3, 100)
    scores[:15] = 50.0
    assert len(choose_suspects(scores, NAMES[:100], "auto")) == 10


def test_a_number_drops_so_many_the_most_suspicious_first():
    scores = np.array([1.0, 5.0, 2.0, 9.0])
    assert [s.image for s in choose_suspects(scores, NAMES[:4], 2)] == [3, 1]
    assert choose_suspects(scores, NAMES[:4], 0) == ()
    message = "--drop-suspects 3: expected at least two of the 4 images to remain"
    with pytest.raises(DatasetError, match=message):
        choose_suspects(scores, NAMES[:4], 3)


def test_what_is_kept_stays_in_order_with_its_features():
    store = make_images(5).store
    expected = store.layers[0][[0, 2, 4]].copy(), store.layers[1][[0, 2, 4]].copy()
    kept = keep_images(store, np.array([0, 2, 4]))
    np.testing.assert_array_equal(kept.layers[0], expected[0])
    np.testing.assert_array_equal(kept.layers[1], expected[1])
