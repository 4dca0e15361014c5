"""Laws of a fit of one image: it scores, its thresholds come from within it, and it says so."""

import numpy as np
import pytest
from PIL import Image

from patchcore_build import FitJob, fit, make_config
from patchcore_build.calibration.banks import TrainingFeatures
from patchcore_build.calibration.one_image import distances_elsewhere
from patchcore_build.errors import DatasetError
from patchcore_build.features.store import FeatureStore, make_bank
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.errors import MonitorError, ThresholdError
from patchcore_runtime.manifest.calibration import NOT_KNOWN
from patchcore_runtime.monitor.monitor import Monitor
from patchcore_runtime.selftest import run_selftest

SETTINGS = {"backbone": "scattering", "resize_px": 128, "coreset_ratio": 0.3}


def draw(seed, size=(128, 128)):
    """Stripes with noise."""
    noise = np.random.default_rng(seed).integers(0, 40, size)
    stripes = np.where(np.arange(size[1]) // 8 % 2, 190, 60)
    return Image.fromarray((stripes + noise).astype(np.uint8)).convert("RGB")


def job(folder, output, recipe="full-frame", **settings):
    others = {name: settings.pop(name) for name in ("groups", "review", "roi") if name in settings}
    config = make_config(recipe, **{**SETTINGS, **settings})
    return FitJob(
        images=folder, category="one", weights=None, output=output, config=config, **others
    )


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A folder with one image."""
    folder = tmp_path_factory.mktemp("one")
    draw(0).save(folder / "only.png")
    return folder


@pytest.mark.parametrize("augment", ["none", "rotate"])
def test_one_image_makes_an_artifact_without_held_out_scores(one, tmp_path, augment):
    report = fit(job(one, tmp_path / "a", augment=augment))
    manifest = Artifact.open(report.artifact).manifest
    calibration = manifest.calibration
    assert (report.images, manifest.monitoring.images) == (1, 1)
    assert (calibration.images, calibration.image_scores) == (0, NOT_KNOWN)
    assert report.warnings[0].startswith("learned from one image: the thresholds are a guess")
    assert all(step.passed for step in run_selftest(Artifact.open(report.artifact)))
    detector = Detector.load(report.artifact)
    good = np.asarray(draw(1)).copy()
    assert not detector.predict(good).is_anomalous
    good[40:72, 40:72] = np.random.default_rng(2).integers(0, 256, (32, 32, 3))
    found = detector.predict(good)
    assert (found.is_anomalous, found.p_value) == (True, 1.0)
    with pytest.raises(ThresholdError, match="one that has thresholds alone, imported or learned"):
        Detector.load(report.artifact, target_fpr=0.01)
    with pytest.raises(MonitorError, match="fit the artifact with more images"):
        Monitor(manifest)


@pytest.mark.parametrize("recipe", ["paper", "modelzoo"])
def test_thresholds_have_the_unit_of_the_rule(one, tmp_path, recipe):
    settings = {"resize_px": 128, "crop_px": 128}
    plain = fit(job(one, tmp_path / "a", recipe, **settings, image_score="max"))
    ruled = fit(job(one, tmp_path / "b", recipe, **settings))
    found, expected = ruled.calibration.image_threshold, plain.calibration.image_threshold
    assert found == pytest.approx(expected**2 if recipe == "modelzoo" else expected, rel=1e-5)
    by_map = fit(job(one, tmp_path / "c", recipe, **settings, image_score="map")).calibration
    assert 0 < by_map.image_threshold < expected
    assert by_map.image_threshold == pytest.approx(by_map.pixel_threshold)


def test_copies_count_as_one_image(one, tmp_path):
    for name in ("a.png", "b.png"):
        draw(0).save(tmp_path / name)
    copies, alone = fit(job(tmp_path, tmp_path / "a")), fit(job(one, tmp_path / "b"))
    # Two whitenings and projections differ a little; a bank that holds the image would give 0.
    expected = pytest.approx(alone.calibration.image_threshold, rel=0.05)
    assert copies.calibration.image_threshold == expected
    assert copies.warnings[0].startswith("learned from 2 equal images, which count as one")


def make_training(grid, channels=6, seed=0):
    rng = np.random.default_rng(seed)
    layers = (rng.standard_normal((1, *grid, channels)).astype(np.float32),)
    store = FeatureStore(layers=layers, upsampling="bilinear")
    training = TrainingFeatures(
        store=store, cloud=None, groups=np.zeros(1, int), size=None, config=None
    )
    count = grid[0] * grid[1]
    rows = np.sort(rng.choice(count, -(-count // 3), replace=False))
    return training, make_bank(store, rows, 3)


@pytest.mark.parametrize("grid", [(9, 14), (16, 16), (5, 8)])
def test_rows_within_reach_do_not_count(grid):
    training, bank = make_training(grid)
    reach = min(3, min(grid) // 4)
    patches = training.store.layers[0][0].astype(np.float64)
    rows = bank.whole_rows(np.arange(bank.rows))
    expected = np.zeros(grid)
    for y, x in np.ndindex(*grid):
        far = (np.abs(bank.origins[:, 1:] - [y, x]) > reach).any(axis=1)
        expected[y, x] = np.linalg.norm(rows[far] - patches[y, x], axis=1).min()
    found, nearest = distances_elsewhere(training, bank, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    chosen = np.linalg.norm(rows[nearest] - patches, axis=2)
    np.testing.assert_allclose(chosen, expected, rtol=1e-5)


def test_a_bank_of_one_place_is_refused():
    training, _ = make_training((4, 4))
    bank = make_bank(training.store, np.array([5]), 1)
    found, _ = distances_elsewhere(training, bank, 0)
    assert found[3, 3] > 0
    assert found[1, 1] == 0  # its only row is its own
    alone, _ = make_training((1, 1))
    with pytest.raises(DatasetError, match=r"one image: expected rows .*; choose a larger"):
        distances_elsewhere(alone, make_bank(alone.store, np.array([0]), 1), 0)


def test_a_region_of_interest_holds(one, tmp_path):
    whole = fit(job(one, tmp_path / "a")).calibration
    inside = fit(job(one, tmp_path / "b", roi="0,0 1,0 1,0.5 0,0.5")).calibration
    assert inside.image_threshold > 0
    assert inside.image_threshold != whole.image_threshold


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"review": "page"}, "--review and --drop-suspects: expected at least two different"),
        ({"groups": "(o)"}, r"--groups \(o\): expected at least two groups .* got all 1 images"),
    ],
)
def test_what_compares_images_is_refused(one, tmp_path, settings, words):
    if "review" in settings:
        settings = {"review": tmp_path / "page"}
    with pytest.raises(DatasetError, match=words):
        fit(job(one, tmp_path / "a", **settings))
    assert not (tmp_path / "a").exists()
