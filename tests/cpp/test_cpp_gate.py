"""Images that do not show the learned part get Python's verdicts, reasons and refusals in C++."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cpp_runs
from artifact_factory import make_artifact, striped_photo, tiled_config, tiny_config, write_sums
from cpp_binary import needs_binary
from cpp_runs import assert_same_reasons, rows_of, run
from masks import write_mask
from patchcore_runtime import Artifact, ArtifactError
from patchcore_runtime.cli.main import main
from places import TINY

pytestmark = needs_binary

REGION, NARROW = (20, 30, 60, 80), (30, 40, 50, 70)
# What the artifact of the whole frame says; the others must say the same in both programs.
VERDICTS = {
    "good": "good",
    "inverted": "good",  # the stripes of another phase
    "spoilt": "anomalous",
    "outside_of_narrow": "not_this_part",
    "outside_of_region": "not_this_part",
    "black": "not_this_part",
    "grey": "not_this_part",
    "noise": "not_this_part",
    "teal": "not_this_part",
    "white": "not_this_part",
}
ONE_COLOUR = {"black", "grey", "teal", "white"}  # rounding decides where the map is largest
ARTIFACTS = ("whole", "tiles", "region", "region of tiles", "squared distances")


@pytest.fixture(scope="module")
def odd_images(tmp_path_factory):
    """Good and odd images, one for each of VERDICTS."""
    folder = tmp_path_factory.mktemp("odd")
    good = striped_photo(9)
    images = {
        "good": good,
        "inverted": 255 - good,
        "black": np.zeros_like(good),
        "white": np.full_like(good, 255),
        "grey": np.full_like(good, 100),
        "teal": np.broadcast_to(np.uint8([20, 130, 140]), good.shape).copy(),
        "noise": np.random.default_rng(1).integers(0, 256, good.shape, dtype=np.uint8),
        "spoilt": good.copy(),
    }
    images["spoilt"][30:50, 50:60] = 255
    for name, (top, left, bottom, right) in (
        ("outside_of_region", REGION),
        ("outside_of_narrow", NARROW),
    ):
        images[name] = images["noise"].copy()
        images[name][top:bottom, left:right] = good[top:bottom, left:right]
    assert sorted(images) == sorted(VERDICTS)
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory, photos, tiny_artifact):
    """Artifacts with a gate, by their names."""
    folder = tmp_path_factory.mktemp("gates")
    mask = write_mask(folder / "mask.png", REGION)
    denser = {"coreset_ratio": 0.2}
    made = {
        "tiles": (tiled_config(), None),
        "region": (tiny_config(**denser), mask),
        "region of tiles": (tiled_config("paper", **denser), mask),
        "squared distances": (tiny_config("modelzoo"), None),
    }
    made = {
        name: make_artifact(folder / name, photos, config, roi=roi)
        for name, (config, roi) in made.items()
    }
    return {"whole": tiny_artifact, **made}


def python_rows(artifact, images, capsys, *options):
    capsys.readouterr()
    assert main(["score", str(artifact), str(images), *map(str, options)]) == 0
    return rows_of(capsys.readouterr().out)


def cpp_rows(artifact, images, *options):
    code, stdout, stderr = run(artifact, images, *options)
    assert (code, stderr) == (0, "")
    return rows_of(stdout)


def name_of(row):
    return Path(row["image"]).stem


def verdicts_of(rows):
    """Return the verdict of each image by its name."""
    return {name_of(row): row["verdict"] for row in rows}


def assert_same(ours, theirs):
    for row in [*ours, *theirs]:
        if name_of(row) in ONE_COLOUR:
            row["peak"] = [0, 0]
    cpp_runs.assert_same(ours, theirs)


def table_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("search", ["engine", "portable"])
@pytest.mark.parametrize("name", ARTIFACTS)
def test_odd_images_get_the_same_verdicts_and_reasons(name, search, artifacts, odd_images, capsys):
    artifact = artifacts[name]
    assert Artifact.open(artifact).manifest.calibration.gate is not None
    theirs = python_rows(artifact, odd_images, capsys)
    assert_same(cpp_rows(artifact, odd_images, "--search", search), theirs)
    assert {"good", "not_this_part"} <= set(verdicts_of(theirs).values())
    if name == "whole":
        assert verdicts_of(theirs) == VERDICTS


@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_narrower_region_changes_no_verdict_of_the_gate(
    name, artifacts, odd_images, tmp_path, capsys
):
    roi = ("--roi", write_mask(tmp_path / "narrow.png", NARROW))
    artifact = artifacts[name]
    theirs = python_rows(artifact, odd_images, capsys, *roi)
    ours = cpp_rows(artifact, odd_images, *roi)
    assert_same(ours, theirs)
    for narrow, whole in zip(ours, cpp_rows(artifact, odd_images), strict=True):
        stopped = {row["verdict"] == "not_this_part" for row in (narrow, whole)}
        assert len(stopped) == 1
        about_part = [
            [reason for reason in row["reasons"] if not reason.startswith("score ")]
            for row in (narrow, whole)
        ]
        assert about_part[0] == about_part[1]


def test_what_is_outside_of_the_learned_region_does_not_count(artifacts, odd_images, capsys):
    for name in ("region", "region of tiles"):
        found = verdicts_of(cpp_rows(artifacts[name], odd_images))
        assert found["outside_of_region"] != "not_this_part"
        assert found == verdicts_of(python_rows(artifacts[name], odd_images, capsys))


def test_the_tables_have_the_same_verdicts_and_reasons(tiny_artifact, odd_images, tmp_path, capsys):
    (odd_images / "refused.png").write_bytes(b"no image")
    try:
        assert run(tiny_artifact, odd_images, "--csv", tmp_path / "ours.csv")[0] == 1
        command = ["score", str(tiny_artifact), str(odd_images)]
        assert main([*command, "--csv", str(tmp_path / "theirs.csv")]) == 1
    finally:
        (odd_images / "refused.png").unlink()
    capsys.readouterr()
    ours, theirs = table_of(tmp_path / "ours.csv"), table_of(tmp_path / "theirs.csv")
    assert len(ours) == len(theirs) == len(VERDICTS) + 1
    for mine, reference in zip(ours, theirs, strict=True):
        assert list(mine) == list(reference)  # the columns and their order
        places = () if name_of(mine) in ONE_COLOUR else ("peak_y", "peak_x")
        for column in ("image", "is_anomalous", "verdict", *places):
            assert mine[column] == reference[column]
        assert bool(mine["error"]) == bool(reference["error"])  # one reads more formats
        assert_same_reasons(mine["reasons"].split("; "), reference["reasons"].split("; "))
    stopped = [row for row in ours if row["verdict"] == "not_this_part"]
    assert len(stopped) == 7
    assert all(row["is_anomalous"] == "True" and row["reasons"] for row in stopped)


def test_a_threshold_changes_what_is_anomalous_and_not_what_is_this_part(
    tiny_artifact, odd_images, capsys
):
    for threshold in ("0.01", "1000"):
        asked = ("--threshold", threshold)
        ours = cpp_rows(tiny_artifact, odd_images, *asked)
        assert_same(ours, python_rows(tiny_artifact, odd_images, capsys, *asked))
        for name, verdict in verdicts_of(ours).items():
            usual = "good" if threshold == "1000" else "anomalous"
            expected = "not_this_part" if VERDICTS[name] == "not_this_part" else usual
            assert verdict == expected


def test_batches_keep_each_images_own_reasons(artifacts, odd_images):
    for name in ("whole", "tiles"):
        one = cpp_rows(artifacts[name], odd_images)
        many = cpp_rows(artifacts[name], odd_images, "--batch", 4, "--threads", 2)
        assert_same(many, one)


def test_without_a_gate_every_image_is_taken_for_the_part(odd_images, capsys):
    theirs = python_rows(TINY, odd_images, capsys)
    ours = cpp_rows(TINY, odd_images)
    assert_same(ours, theirs)
    assert "not_this_part" not in verdicts_of(ours).values()


def set_gate(folder, gate):
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    document["calibration"]["gate"] = gate
    path.write_text(json.dumps(document))
    write_sums(folder)


def test_an_image_at_both_limits_is_the_part_and_beyond_either_is_not(
    own_artifact, odd_images, capsys
):
    image = odd_images / "good.png"
    wide = {"usual_distance": 0, "largest_distance": 1e-9, "usual_rows": 10**6}
    set_gate(own_artifact, wide | {"fewest_rows": 10**6})
    (row,) = cpp_rows(own_artifact, image)
    rows = int(row["reasons"][0].removeprefix("most of what was learned is missing: ").split()[0])
    assert row["reasons"][0].endswith("about 1000000, expected at least 1000000")
    shown = float(row["reasons"][1].split("distance is ")[1].split(",")[0])
    for fewest, largest, expected in (
        (rows, 1.001 * shown, "this part"),
        (rows + 1, 1.001 * shown, "most of what was learned is missing"),
        (rows, 0.999 * shown, "nothing looks as learned"),
    ):
        set_gate(own_artifact, wide | {"fewest_rows": fewest, "largest_distance": largest})
        (ours,) = cpp_rows(own_artifact, image)
        assert_same([ours], python_rows(own_artifact, image, capsys))
        stopped = ours["verdict"] == "not_this_part"
        assert (ours["reasons"][0].split(":")[0] if stopped else "this part") == expected


@pytest.mark.parametrize(
    "change",
    [
        {"usual_distance": -1},
        {"usual_distance": None},
        {"usual_distance": "far"},
        {"largest_distance": 0},
        {"largest_distance": []},
        {"usual_rows": 0},
        {"usual_rows": 2**31},
        {"usual_rows": 2**63},
        {"usual_rows": 1.0},
        {"usual_rows": True},
        {"fewest_rows": -1},
        {"fewest_rows": 2**31 - 1},
        {"surprise": 1},
        {"largest_distance": math.nan},
    ],
)
def test_a_damaged_gate_is_refused_in_the_same_words(change, own_artifact):
    manifest = json.loads((own_artifact / "manifest.json").read_text())
    set_gate(own_artifact, manifest["calibration"]["gate"] | change)
    assert_same_refusal(own_artifact)


@pytest.mark.parametrize("gate", [None, True, [], {}, 1, 1.5, "none"])
def test_what_is_no_gate_is_refused_in_the_same_words(gate, own_artifact):
    set_gate(own_artifact, gate)
    assert_same_refusal(own_artifact)


def assert_same_refusal(artifact):
    code, stdout, stderr = run(artifact, artifact / "selftest.png")
    assert (code, stdout) == (1, "")
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(artifact)
    ours = stderr.removeprefix("patchcore_infer: ").rstrip("\n")
    if "not JSON" not in ours:
        assert ours == str(caught.value)
        assert "calibration.gate" in ours
