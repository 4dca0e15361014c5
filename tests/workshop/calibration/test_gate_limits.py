"""Laws of the gate's limits: every held-out good image passes, and the margin is wide."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiny_config, write_photos
from patchcore_build.calibration.gate import estimate_gate
from patchcore_build.merge import merge
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.cli.main import main
from patchcore_runtime.scoring.gate import GateValues, strangeness


def draw(count, seed=0, spread=0.02):
    rng = np.random.default_rng(seed)
    return [
        GateValues(distance=float(np.exp(rng.normal(0.5, spread))), rows=int(rng.integers(90, 111)))
        for _ in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 24, 300])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.4])
def test_held_out_images_pass_with_a_margin(count, spread):
    values = draw(count, spread=spread)
    gate = estimate_gate(values)
    for one in values:
        near = GateValues(distance=1.04 * one.distance, rows=round(0.82 * one.rows))
        assert strangeness(gate, near) == ()
    usual = float(np.median([one.distance for one in values]))
    assert gate.usual_distance == usual
    assert gate.largest_distance >= 1.2 * usual
    assert gate.fewest_rows <= 0.36 * gate.usual_rows


def test_an_outlier_among_the_good_images_widens_the_limit_to_itself_alone():
    values = [*draw(40), GateValues(distance=5.0, rows=12)]
    gate = estimate_gate(values)
    assert gate.largest_distance == pytest.approx(5.25)
    assert gate.fewest_rows == 9


def test_equal_images_and_no_images():
    gate = estimate_gate([GateValues(distance=0.0, rows=1)] * 3)
    assert 0 < gate.largest_distance < 1e-9
    assert gate.fewest_rows == 0
    assert estimate_gate([]) is None


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two artifacts of one frame, and the folder of their images."""
    folder = tmp_path_factory.mktemp("limits")
    for name, first in (("one", 0), ("two", 40)):
        write_photos(folder / name / "photos", 6)
        for at in range(6):
            Image.fromarray(striped_photo(first + at)).save(folder / name / "photos" / f"{at}.png")
        make_artifact(folder / name / "a", folder / name / "photos", tiny_config())
    return folder


def gate_of(folder):
    return Artifact.open(folder).manifest.calibration.gate


def test_a_merged_artifact_lets_through_what_one_of_both_does(places, tmp_path):
    one, two = (gate_of(places / name / "a") for name in ("one", "two"))
    merge(places / "one" / "a", places / "two" / "a", tmp_path / "both")
    both = gate_of(tmp_path / "both")
    assert both.largest_distance == max(one.largest_distance, two.largest_distance)
    assert both.fewest_rows == min(one.fewest_rows, two.fewest_rows)
    detector = Detector.load(tmp_path / "both")
    assert detector.predict(striped_photo(2)).verdict == "good"
    assert detector.predict(np.zeros((80, 120, 3), np.uint8)).verdict == "not_this_part"


def test_a_smaller_bank_expects_as_large_a_share_of_its_rows(places, tmp_path):
    source = places / "one" / "a"
    name = Artifact.open(source).manifest.training.images[0]
    assert main(["forget", str(source), "--image", name, "--output", str(tmp_path / "less")]) == 0
    before, after = Artifact.open(source).manifest, Artifact.open(tmp_path / "less").manifest
    share = after.memory_bank.rows / before.memory_bank.rows
    gate = before.calibration.gate
    assert share < 1
    assert after.calibration.gate == dataclasses.replace(
        gate,
        usual_rows=round(gate.usual_rows * share),
        fewest_rows=int(gate.fewest_rows * share),
    )


@pytest.mark.parametrize("settings", [{"tile_px": 64, "tile_overlap_px": 0}, {"roi": True}])
def test_tiles_and_regions_have_a_gate_of_their_own(tmp_path, settings):
    photos = write_photos(tmp_path / "photos", 8)
    roi = "0,0 1,0 1,0.6 0,0.6" if settings.pop("roi", False) else None
    config = tiny_config(resize_px=128, **settings)
    folder = make_artifact(tmp_path / "a", photos, config, roi=roi)
    detector = Detector.load(folder)
    assert detector.predict(striped_photo(60)).verdict == "good"
    assert detector.predict(np.full((80, 120, 3), 255, np.uint8)).verdict == "not_this_part"
