"""Laws of rotated views: what is turned, and what does not count twice."""

import numpy as np
import pytest

from patchcore_build import FitJob, fit, make_config
from patchcore_build.data.image_folder import list_images
from patchcore_build.data.training_inputs import load_inputs
from patchcore_build.data.views import ANGLES, rotated
from patchcore_build.errors import SettingError
from patchcore_build.fitting.learner import image_groups
from patchcore_build.storage import Storage
from patchcore_runtime import Artifact
from patchcore_runtime.selftest import run_selftest

SETTINGS = {"backbone": "scattering", "resize_px": 64, "coreset_ratio": 0.05, "folds": 2}


def draw(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (42, 70)])
def test_turns_of_a_quarter_are_exact_inside(height, width):
    image = draw(height, width)
    assert rotated(image, 0) is image
    np.testing.assert_array_equal(rotated(image, 180), image[::-1, ::-1])
    if height == width:
        np.testing.assert_array_equal(rotated(image, 90), np.rot90(image))


@pytest.mark.parametrize("angle", ANGLES)
def test_an_image_of_one_colour_stays_it_at_every_angle(angle):
    image = np.full((42, 70, 3), 77, np.uint8)
    np.testing.assert_array_equal(rotated(image, angle), image)


def test_views_follow_their_photograph_and_count_as_equal(photos, tmp_path):
    folder = list_images(photos)
    config = make_config("full-frame", **SETTINGS, augment="rotate")
    inputs = load_inputs(folder, config, Storage(tmp_path, budget_bytes=2**30))
    count = len(folder.images)
    assert len(inputs.names) == len(inputs.pixels) == 8 * count
    assert inputs.names[:3] == ("000.png", "000.png@45", "000.png@90")
    np.testing.assert_array_equal(inputs.pixels[12], rotated(inputs.pixels[8], 180))
    assert np.unique(inputs.first_equal).tolist() == [8 * image for image in range(count)]
    groups = image_groups(inputs, r"^(00[0-2]|.*)\.png$")
    assert (groups.reshape(count, 8) == groups[::8, None]).all()


def test_a_fit_learns_from_views_but_calibrates_with_photographs(photos, tmp_path):
    config = make_config("full-frame", **SETTINGS, augment="rotate")
    request = FitJob(
        images=photos, category="stripes", weights=None, output=tmp_path / "a", config=config,
        keep_thumbnails=True,
    )  # fmt: skip
    report = fit(request)
    artifact = Artifact.open(report.artifact)
    manifest = artifact.manifest
    assert report.images == len(list_images(photos).images)
    assert len(manifest.training.images) == 8 * report.images
    assert manifest.calibration.images <= report.images
    assert manifest.monitoring.images == report.images
    assert manifest.config["augment"] == "rotate"
    assert set(artifact.memory_bank.origins[:, 0] % 8) > {0}
    assert all(step.passed for step in run_selftest(artifact))


@pytest.mark.parametrize("beside", [{"roi": "0,0 1,0 1,1"}, {"drop_suspects": 1}])
def test_views_are_refused_beside_what_would_miss_them(photos, tmp_path, beside):
    config = make_config("full-frame", **SETTINGS, augment="rotate")
    with pytest.raises(SettingError, match="--augment: expected none beside --roi"):
        FitJob(
            images=photos, category="stripes", weights=None, output=tmp_path / "a", config=config,
            **beside,
        )  # fmt: skip
