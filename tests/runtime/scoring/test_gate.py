"""Laws of the gate: nothing that shows no part is good, and a good image passes."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from artifact_factory import make_artifact, striped_photo, tiny_config, write_photos, write_sums
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.cli.main import main
from patchcore_runtime.manifest.calibration import Gate
from patchcore_runtime.scoring.gate import GateValues, measure_gate, strangeness, widened

LIMITS = Gate(usual_distance=2.0, largest_distance=2.5, usual_rows=40, fewest_rows=20)


def odd_images(good):
    """Images without the part: flat ones and noise."""
    rng = np.random.default_rng(7)
    return {
        "black": np.zeros_like(good),
        "white": np.full_like(good, 255),
        "grey": np.full_like(good, 128),
        "noise": rng.integers(0, 256, good.shape, np.uint8),
    }


def test_the_two_figures_are_the_lower_median_above_zero_and_the_rows_in_use():
    distances = np.array([[0, 4, 1], [3, 2, 0]], np.float32)
    rows = np.array([[5, 5, 5], [9, 9, 0]])
    assert measure_gate(distances, rows) == GateValues(distance=2.0, rows=3)
    counts = np.array([[True, True, True], [False, False, False]])
    assert measure_gate(distances, rows, counts) == GateValues(distance=1.0, rows=1)
    near = np.array([[1e-3, 4, 1e-7], [3, 2, 0]], np.float32)  # next to 0, as rounding has it
    assert measure_gate(near, rows) == GateValues(distance=3.0, rows=3)
    nothing = measure_gate(np.zeros((2, 2), np.float32), np.full((2, 2), 3))
    assert nothing == GateValues(distance=0.0, rows=1)


@pytest.mark.parametrize("seed", range(5))
def test_the_median_is_an_order_statistic(seed):
    rng = np.random.default_rng(seed)
    distances = rng.uniform(0.1, 5, rng.integers(1, 60)).astype(np.float32)
    middle = float(np.sort(distances)[(len(distances) - 1) // 2])
    rows = rng.integers(0, 9, len(distances))
    assert measure_gate(distances, rows) == GateValues(distance=middle, rows=len(set(rows)))


@pytest.mark.parametrize(
    ("distance", "rows", "words"),
    [
        (2.5, 20, []),
        (2.51, 20, ["nothing looks as learned: the median patch distance is 2.51, .* at most 2.5"]),
        (0.0, 19, ["most of what was learned is missing: 19 rows .* about 40, .* at least 20"]),
        (9.0, 1, ["most of what was learned", "nothing looks as learned"]),
    ],
)
def test_each_limit_gives_a_reason_with_its_numbers(distance, rows, words):
    found = strangeness(LIMITS, GateValues(distance=distance, rows=rows))
    assert len(found) == len(words)
    for reason, expected in zip(found, words, strict=True):
        assert re.search(expected, reason), reason
    assert strangeness(None, GateValues(distance=distance, rows=rows)) == ()


def test_limits_widen_to_what_somebody_calls_good():
    shown = [GateValues(distance=4.0, rows=10), GateValues(distance=1.0, rows=50)]
    wider = widened(LIMITS, shown)
    assert all(not strangeness(wider, one) for one in shown)
    assert (wider.usual_distance, wider.usual_rows) == (2.0, 40)
    assert widened(LIMITS, [GateValues(distance=1.0, rows=50)]) == LIMITS
    assert widened(None, shown) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An artifact of twelve images."""
    place = tmp_path_factory.mktemp("gate")
    photos = write_photos(place / "photos", 12)
    return make_artifact(place / "a", photos, tiny_config(coreset_ratio=0.2))


@pytest.mark.parametrize("recipe", ["full-frame", "paper"])
def test_an_image_without_the_part_is_never_good(tmp_path, recipe):
    photos = write_photos(tmp_path / "photos", 8)
    detector = Detector.load(make_artifact(tmp_path / "a", photos, tiny_config(recipe)))
    for seed in (100, 101, 102):
        assert detector.predict(striped_photo(seed)).verdict == "good"
    for name, image in odd_images(striped_photo(100)).items():
        result = detector.predict(image)
        assert result.verdict != "good", name
        assert result.is_anomalous
        assert result.reasons


def test_a_flat_image_is_not_this_part_whatever_its_score(folder):
    detector = Detector.load(folder, threshold=1e6)
    result = detector.predict(np.zeros((80, 120, 3), np.uint8))
    assert (result.verdict, result.is_anomalous) == ("not_this_part", True)
    assert "not_this_part" in repr(result)
    words = " ".join(result.reasons)
    assert "most of what was learned is missing" in words
    assert "brightness 0, learned " in words
    assert "score" not in words
    measured = detector.predict(np.zeros((80, 120, 3), np.uint8), measure=True)
    assert measured.reasons == result.reasons
    good = detector.predict(striped_photo(200))
    assert (good.verdict, good.reasons) == ("good", ())


def test_an_anomaly_says_its_score_and_the_threshold(folder):
    detector = Detector.load(folder, threshold=1e-6)
    result = detector.predict(striped_photo(200))
    assert result.verdict == "anomalous"
    assert result.reasons == (f"score {result.score:.4g}, expected at most 1e-06",)


def test_the_command_prints_verdict_and_reasons_and_fails_on_them(folder, tmp_path, capsys):
    image, table = tmp_path / "black.png", tmp_path / "scores.csv"
    Image.fromarray(np.zeros((80, 120, 3), np.uint8)).save(image)
    arguments = ["score", str(folder), str(image), "--threshold", "1e6", "--csv", str(table)]
    assert main([*arguments, "--fail-on-anomaly"]) == 3
    row = json.loads(capsys.readouterr().out)
    assert (row["verdict"], row["is_anomalous"]) == ("not_this_part", True)
    assert row["reasons"] == list(Detector.load(folder, threshold=1e6).predict(image).reasons)
    header, line = table.read_text().splitlines()
    assert header.split(",")[6] == "verdict"
    assert ",not_this_part," in line
    assert row["reasons"][0] in line


def test_a_narrower_region_does_not_change_the_verdict(folder, tmp_path):
    mask = np.zeros((80, 120), np.uint8)
    mask[:16, :16] = 255
    Image.fromarray(mask).save(tmp_path / "roi.png")
    narrow = Detector.load(folder, roi=tmp_path / "roi.png")
    assert narrow.predict(striped_photo(200)).verdict == "good"
    assert narrow.predict(np.zeros((80, 120, 3), np.uint8)).verdict == "not_this_part"


def test_an_artifact_without_a_gate_judges_by_the_score_alone(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "a")
    manifest = Artifact.open(folder).manifest
    calibration = dataclasses.replace(manifest.calibration, gate=None)
    text = dataclasses.replace(manifest, calibration=calibration).to_json()
    assert '"gate"' not in text
    (tmp_path / "a" / "manifest.json").write_text(text, encoding="utf-8")
    write_sums(tmp_path / "a")
    result = Detector.load(tmp_path / "a", threshold=1e6).predict(np.zeros((80, 120, 3), np.uint8))
    assert (result.verdict, result.reasons) == ("good", ())


def test_what_the_gate_stopped_can_be_taught(folder, tmp_path, capsys):
    image = tmp_path / "dark.png"
    Image.fromarray(np.zeros((80, 120, 3), np.uint8)).save(image)
    assert Detector.load(folder).predict(image).verdict == "not_this_part"
    assert main(["learn", str(folder), str(image), "--output", str(tmp_path / "b")]) == 0
    assert Detector.load(tmp_path / "b").predict(image).verdict == "good"
    assert "rows" in capsys.readouterr().out
