"""Laws of `patchcore-build merge`: the union of both banks, the larger thresholds, or a refusal."""

import dataclasses
import json
import shutil
from fractions import Fraction

import numpy as np
import pytest

from artifact_factory import make_artifact, tiny_config, write_network, write_photos, write_sums
from masks import write_mask
from patchcore_build.cli.main import main
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.bank.neighbours import nearest_rows
from patchcore_runtime.cli.main import main as runtime_main
from patchcore_runtime.edit.edit import artifact_digest
from patchcore_runtime.scoring.thresholds import threshold_at

BOXES = {"left": (20, 10, 60, 50), "right": (20, 60, 60, 100)}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two artifacts of one network, of images of which some are the same."""
    folder = tmp_path_factory.mktemp("pair")
    few, many = write_photos(folder / "few", 4), write_photos(folder / "many", 9)
    config = tiny_config(coreset_ratio=0.1)
    return (
        make_artifact(folder / "line1", few, config, thumbnails=True),
        make_artifact(folder / "line2", many, config),
    )


def merge(first, second, output, *options):
    return main(["merge", str(first), str(second), "--output", str(output), *options])


def test_the_bank_is_the_union_and_every_patch_is_as_near_as_to_the_nearer(pair, tmp_path):
    assert merge(*pair, tmp_path / "both") == 0
    assert runtime_main(["check", str(tmp_path / "both")]) == 0
    one, other, both = (Artifact.open(folder) for folder in (*pair, tmp_path / "both"))
    rows = [artifact.memory_bank.whole_rows(slice(None)) for artifact in (one, other, both)]
    assert np.array_equal(np.concatenate(rows[:2]), rows[2])
    bank = both.memory_bank
    count = bank.neighbours.shape[1]
    assert np.array_equal(bank.neighbours, nearest_rows(rows[2], bank.norms, count))
    detectors = [Detector(artifact, threads=1) for artifact in (one, other, both)]
    for photo in sorted((pair[1].parent / "many").iterdir()):
        ours, theirs, result = (detector.predict(photo) for detector in detectors)
        nearer = np.minimum(ours.patch_distances, theirs.patch_distances)
        np.testing.assert_allclose(result.patch_distances, nearer, rtol=1e-5, atol=1e-5)
        evidence = detectors[2].explain(result, top=1)[0]
        assert evidence.normal_image in both.manifest.training.images


def test_names_stay_apart_and_lead_to_their_own_artifact(pair, tmp_path):
    assert merge(*pair, tmp_path / "both") == 0
    one, other, both = (Artifact.open(folder) for folder in (*pair, tmp_path / "both"))
    names = both.manifest.training.images
    first, second = one.manifest.training.images, other.manifest.training.images
    assert names == (*first, *(f"line2/{name}" for name in second))
    moved = both.memory_bank.origins[one.memory_bank.rows :]
    assert np.array_equal(moved - [len(first), 0, 0], other.memory_bank.origins)
    assert both.thumbnails[: len(first)] == one.thumbnails
    assert not any(kept.jpeg for kept in both.thumbnails[len(first) :])
    (edit,) = both.manifest.provenance["edits"]
    assert (edit["of"], edit["and_of"]) == (artifact_digest(one), artifact_digest(other))


def test_thresholds_are_the_larger_of_both(pair, tmp_path):
    for order in (pair, pair[::-1]):
        output = tmp_path / order[0].name
        assert merge(*order, output) == 0
        ours, theirs, both = (
            Artifact.open(folder).manifest.calibration for folder in (*order, output)
        )
        for name in ("image_threshold", "pixel_threshold"):
            assert getattr(both, name) == max(getattr(ours, name), getattr(theirs, name))
        for rate in (0.65, 0.8, 0.95):  # no threshold read off the scores falls
            for name in ("image_scores", "map_maxima"):
                separate = [threshold_at(one, getattr(one, name), rate) for one in (ours, theirs)]
                assert threshold_at(both, getattr(both, name), rate) >= max(separate) * (1 - 1e-9)
        assert "the larger of both thresholds" in both.method


def _scores_that_cross(folder, upper):
    """Lift an artifact's stored scores to the middle of another's; its thresholds stay."""
    document = json.loads((folder / "manifest.json").read_text("utf-8"))
    for name in ("image_scores", "map_maxima"):
        stored = document["calibration"][name]
        lift = np.median(getattr(upper, name).values) / np.median(stored["values"])
        stored["values"] = [lift * value for value in stored["values"]]
    (folder / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    write_sums(folder)


def test_held_out_scores_are_the_larger_of_both_at_the_same_rate(pair, tmp_path):
    calibrations = {folder: Artifact.open(folder).manifest.calibration for folder in pair}
    second, first = sorted(pair, key=lambda folder: calibrations[folder].image_threshold)
    other = shutil.copytree(second, tmp_path / "other")
    upper = calibrations[first]
    _scores_that_cross(other, upper)
    lower = Artifact.open(other).manifest.calibration
    assert merge(first, other, tmp_path / "both") == 0
    both = Artifact.open(tmp_path / "both").manifest.calibration
    assert upper.images != lower.images
    assert both.ranks == upper.ranks == tuple(range(1, upper.images + 1))
    for name in ("image_scores", "map_maxima"):
        ours, theirs = getattr(upper, name).values, getattr(lower, name).values
        expected = []
        for rank in both.ranks:
            share = Fraction(rank, upper.images + 1)  # of the scores that lie below
            same = [s for s in lower.ranks if Fraction(s, lower.images + 1) >= share]
            expected.append(max(ours[rank - 1], theirs[min(same, default=lower.images) - 1]))
        assert getattr(both, name).values == tuple(expected)
        assert set(expected) & set(ours)
        assert set(expected) & set(theirs)


def test_the_report_says_what_was_joined(pair, tmp_path, capsys):
    assert merge(*pair, tmp_path / "both", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    banks = [Artifact.open(folder).memory_bank.rows for folder in pair]
    assert (report["rows"], report["images"]) == (banks, [4, 9])


def _other_network(folder, _document):
    write_network(folder / "features.onnx", height=64, width=96, seed=1)


def _change(*path, value):
    def change(folder, document):
        inner = document
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        (folder / "manifest.json").write_text(json.dumps(document), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_network, "features.onnx: expected the bytes of"),
        (_change("preprocess", "filter", value="lanczos"), "preprocess.filter: expected bilinear"),
        (_change("scoring", "sigma_px", value=3.0), "scoring.sigma_px: expected"),
        (_change("scoring", "image_score", value="paper"), "scoring.image_score: expected max"),
        (_change("features", "upsampling", value="nearest"), "features.upsampling"),
    ],
)
def test_artifacts_that_compare_features_in_other_ways_are_refused(
    change, message, pair, tmp_path, capsys
):
    other = shutil.copytree(pair[1], tmp_path / "other")
    change(other, json.loads((other / "manifest.json").read_text("utf-8")))
    write_sums(other)
    assert merge(pair[0], other, tmp_path / "both") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "both").exists()


def test_rows_of_another_precision_are_refused(pair, tmp_path, capsys):
    config = dataclasses.replace(tiny_config(coreset_ratio=0.1), bank_precision="float16")
    half = make_artifact(tmp_path / "half", pair[0].parent / "few", config)
    assert merge(pair[0], half, tmp_path / "both") == 1
    assert "memory_bank.precision: expected float32" in capsys.readouterr().err


def test_a_name_that_cannot_be_told_apart_is_refused(pair, tmp_path, capsys):
    assert merge(*pair, tmp_path / "both") == 0
    assert merge(tmp_path / "both", pair[1], tmp_path / "again") == 1
    assert "the prefix line2/ is in use as well; rename" in capsys.readouterr().err


def test_artifacts_that_look_elsewhere_are_refused(pair, tmp_path, capsys):
    masks = [write_mask(tmp_path / f"{name}.png", box) for name, box in BOXES.items()]
    left, right = (
        make_artifact(tmp_path / mask.stem, pair[0].parent / "few", tiny_config(), roi=mask)
        for mask in masks
    )
    assert merge(left, right, tmp_path / "both") == 1
    assert "roi.png: expected the bytes of" in capsys.readouterr().err
    whole = make_artifact(tmp_path / "whole", pair[0].parent / "few", tiny_config())
    assert merge(left, whole, tmp_path / "both") == 1
    assert "region.kind: expected mask" in capsys.readouterr().err
    tiled = make_artifact(
        tmp_path / "tiled", pair[0].parent / "few", tiny_config(tile_px=64, tile_overlap_px=16)
    )
    assert merge(whole, tiled, tmp_path / "both") == 1
    assert "tiling.tile_width: expected 96" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()
