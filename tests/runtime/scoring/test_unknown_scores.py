"""Laws of artifacts without held-out scores or origins, as an import makes them."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from artifact_factory import make_artifact, striped_photo, tiny_config, write_photos, write_sums
from patchcore_build.cli.main import main as build_main
from patchcore_runtime import Artifact, Detector, Monitor
from patchcore_runtime.bank.memory_bank import read_memory_bank, write_memory_bank
from patchcore_runtime.cli.main import main
from patchcore_runtime.edit.learn import learning_radius
from patchcore_runtime.errors import ArtifactError, ThresholdError
from patchcore_runtime.manifest.calibration import without_scores
from patchcore_runtime.manifest.manifest import parse_manifest
from patchcore_runtime.scoring.thresholds import (
    describe_calibration,
    few_images,
    p_value,
    threshold_at,
)


def forget_scores_and_images(folder):
    """Make an artifact what an import would have made: thresholds and rows alone."""
    manifest = Artifact.open(folder).manifest
    unknown = dataclasses.replace(
        manifest,
        calibration=without_scores(manifest.calibration),
        training=dataclasses.replace(manifest.training, images=(), thumbnails="none"),
    )
    bank = read_memory_bank(folder / "memory_bank.bin")
    bank = dataclasses.replace(bank, origins=np.full_like(bank.origins, -1))
    copy = folder / "bank"
    write_memory_bank(copy, bank)
    copy.replace(folder / "memory_bank.bin")
    (folder / "manifest.json").write_text(unknown.to_json(), encoding="utf-8")
    write_sums(folder)
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two artifacts of one network: an ordinary one, and one as if it had been imported."""
    folder = tmp_path_factory.mktemp("unknown")
    photos = write_photos(folder / "photos", 30)
    known = make_artifact(folder / "known", photos, tiny_config())
    shutil.copytree(known, folder / "unknown")
    return known, forget_scores_and_images(folder / "unknown")


def test_scores_and_verdicts_do_not_change_and_every_p_value_is_one(places):
    known, unknown = (Detector.load(folder, threads=1) for folder in places)
    for seed in (1, 200):
        ours, theirs = (one.predict(striped_photo(seed)) for one in (known, unknown))
        assert (ours.score, ours.is_anomalous) == (theirs.score, theirs.is_anomalous)
        np.testing.assert_array_equal(ours.anomaly_map, theirs.anomaly_map)
        assert theirs.p_value == 1
    for detector, rare in ((known, True), (unknown, False)):
        calibration = detector.manifest.calibration
        assert (p_value(calibration, calibration.image_scores, 1e9) < 0.01) == rare


def test_no_rate_has_a_threshold(places):
    calibration = Artifact.open(places[1]).manifest.calibration
    for rate in (0.001, 0.5, 0.999):
        with pytest.raises(ThresholdError, match="an artifact with held-out scores"):
            threshold_at(calibration, calibration.image_scores, rate)


def test_people_are_told_that_the_rate_is_not_known(places, capsys):
    calibration = Artifact.open(places[1]).manifest.calibration
    assert "not known" in describe_calibration(calibration)["false alarms"]
    assert "no held-out scores" in few_images(calibration)[0]
    assert main(["info", str(places[1])]) == 0
    shown = capsys.readouterr()
    assert "trained on:      images that are not known" in shown.out
    assert "1 in" not in shown.out


def test_the_threshold_is_the_radius_of_what_is_learned(places, tmp_path):
    manifest = Artifact.open(places[1]).manifest
    assert learning_radius(manifest) == manifest.calibration.image_threshold
    photo = tmp_path / "odd.png"
    write_photos(tmp_path / "odd", 1)
    odd = np.clip(striped_photo(3).astype(int)[:, ::-1] + 90, 0, 255).astype(np.uint8)
    from PIL import Image

    Image.fromarray(odd).save(photo)
    if Detector.load(places[1], threads=1).predict(photo).is_anomalous:
        output = tmp_path / "taught"
        assert main(["learn", str(places[1]), str(photo), "--output", str(output)]) == 0
        taught = Detector.load(output, threads=1)
        assert not taught.predict(photo).is_anomalous
        origins = taught.artifact.memory_bank.origins[:, 0]
        assert set(origins.tolist()) == {-1, 0}


def test_the_monitor_watches_all_but_the_score(places):
    known, unknown = (Monitor(Artifact.open(folder).manifest) for folder in places)
    assert set(known._charts) - set(unknown._charts) == {"score"}
    detector = Detector.load(places[1], threads=1)
    result = detector.predict(striped_photo(300), measure=True)
    assert unknown.judge(result).images == 1


def test_a_merge_with_unknown_scores_has_none_and_keeps_the_larger_thresholds(places, tmp_path):
    for first, second in (places, places[::-1]):
        output = tmp_path / first.name
        arguments = ["merge", str(first), str(second), "--output", str(output)]
        assert build_main(arguments) == 0
        merged = Artifact.open_whole(output)
        calibration = merged.manifest.calibration
        assert (calibration.images, calibration.ranks) == (0, ())
        known = Artifact.open(places[0])
        assert calibration.image_threshold == known.manifest.calibration.image_threshold
        origins = merged.memory_bank.origins
        unknown = (origins == -1).all(axis=1)
        assert unknown.sum() == known.memory_bank.rows
        assert sorted(origins[~unknown].tolist()) == sorted(known.memory_bank.origins.tolist())


def test_unknown_scores_are_wholly_unknown(places):
    text = (places[1] / "manifest.json").read_text(encoding="utf-8")
    parse_manifest(text, "box")
    for path, value in (
        (["groups"], 1),
        (["folds"], 1),
        (["target_fpr"], 0.01),
        (["ranks"], [1]),
        (["image_scores", "values"], [1.0]),
        (["image_scores", "bias"], 0.9),
        (["map_maxima", "tail", "scale"], 2.0),
    ):
        document = json.loads(text)
        place = document["calibration"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        with pytest.raises(ArtifactError, match=r"box: calibration\."):
            parse_manifest(json.dumps(document), "box")
