"""Laws of `fit`, on real MindSpore runs with a random ResNet-18 and six small images."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from artifact_factory import striped_photo
from patchcore_build import FitJob, evaluate, fit, make_config
from patchcore_build.backbone.device import open_device
from patchcore_build.errors import DatasetError, DeviceError, OutputError, WeightsError
from patchcore_build.export.checked import EXPORT_TOLERANCE
from patchcore_build.fitting.learner import Learner
from patchcore_runtime import Artifact, Detector, ImageError
from patchcore_runtime.artifact.folder import FEATURES_MINDIR, FEATURES_ONNX, SHA256SUMS
from patchcore_runtime.engine.session import open_network
from patchcore_runtime.image.preprocess import preprocess
from patchcore_runtime.selftest import run_selftest
from places import SHARED

SETTINGS = {"backbone": "resnet18", "resize_px": 64, "coreset_ratio": 0.05, "folds": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A resnet18 with random numbers, as a file."""
    open_device()
    from patchcore_build.backbone.extractor import random_weights

    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    safetensors.numpy.save_file(random_weights("resnet18", seed=5), path)
    return path


def job(photos, weights, output, **changes):
    settings = {**SETTINGS, **changes.pop("settings", {})}
    config = make_config(changes.pop("recipe", "full-frame"), **settings)
    given = {"images": photos, "category": "stripes", "weights": str(weights), **changes}
    return FitJob(output=output, config=config, **given)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, photos, weights):
    """The report of one fit, its artifact only for reading."""
    return fit(job(photos, weights, tmp_path_factory.mktemp("fit") / "stripes"))


@pytest.fixture(scope="module")
def spared(tmp_path_factory, photos, weights):
    """The report of a fit that leaves out the one damaged image of its folder."""
    folder = tmp_path_factory.mktemp("spared")
    spoiled = shutil.copytree(photos, folder / "photos")
    (spoiled / "003.png").write_bytes(b"damaged")
    (spoiled / "notes.txt").write_text("stray", encoding="utf-8")
    return fit(job(spoiled, weights, folder / "stripes", skip_bad=True))


def sums(artifact):
    return (artifact / SHA256SUMS).read_text(encoding="utf-8")


def refused(error, message, tmp_path, request):
    """A fit that ends in one line and leaves nothing where its output should be."""
    with pytest.raises(error, match=message) as caught:
        fit(request)
    assert "\n" not in str(caught.value)
    assert not request.output.exists()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_the_artifact_is_complete_and_checks_itself(fitted):
    artifact = Artifact.open(fitted.artifact)
    artifact.verify()
    assert {path.name for path in fitted.artifact.iterdir()} == {*artifact.files, SHA256SUMS}
    assert all(step.passed for step in run_selftest(artifact, threads=1))


def test_the_report_says_what_the_manifest_says(fitted):
    manifest = Artifact.open(fitted.artifact).manifest
    assert fitted.images == len(manifest.training.images) == 6
    assert fitted.rows == manifest.memory_bank.rows == round(0.05 * 6 * 64)
    assert fitted.input_size == (manifest.preprocess.height, manifest.preprocess.width) == (64, 64)
    assert fitted.calibration == manifest.calibration
    assert (fitted.skipped, fitted.left_out) == ((), "")
    assert manifest.config == json.loads(json.dumps(dataclasses.asdict(make_config(
        "full-frame", **SETTINGS
    ))))  # fmt: skip


def test_both_exports_do_what_mindspore_does(fitted):
    assert set(fitted.export_difference) == {FEATURES_ONNX, FEATURES_MINDIR}
    assert all(0 <= gap <= EXPORT_TOLERANCE for gap in fitted.export_difference.values())


def test_the_manifest_knows_the_weights_and_neither_the_machine_nor_the_time(
    fitted, weights, tmp_path_factory
):
    text = (fitted.artifact / "manifest.json").read_text(encoding="utf-8")
    manifest = json.loads(text)
    assert manifest["provenance"]["weights"]["name"] == weights.name
    assert len(manifest["provenance"]["weights"]["sha256"]) == 64
    assert str(tmp_path_factory.getbasetemp()) not in text
    assert "/" not in "".join(manifest["training"]["images"])
    assert str(Path.home()) not in text
    assert re.search(r"20\d\d-\d\d|\d\d:\d\d|\b1[6-9]\d{8}\b", text) is None  # a day, hour or epoch


@pytest.mark.parametrize("budget", ["8", "0"])
def test_another_process_writes_the_same_bytes_with_and_without_memory(
    fitted, photos, weights, tmp_path, budget
):
    elsewhere = shutil.copytree(photos, tmp_path / "stripes")  # its name is the category
    code = "import sys; from patchcore_build.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [
        sys.executable, "-c", code, "fit", "--normal", elsewhere, "--output", tmp_path / "out",
        "--backbone", "resnet18", "--weights", weights, "--resize-px", "64", "--folds", "2",
        "--coreset-ratio", "0.05", "--memory-budget-gb", budget, "--json",
    ]  # fmt: skip
    working = tmp_path / "working"
    working.mkdir()
    done = subprocess.run(command, cwd=working, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["rows"], report["images"]) == (fitted.rows, 6)
    assert sums(tmp_path / "out") == sums(fitted.artifact)
    assert list(working.iterdir()) == []


def test_a_fit_that_stopped_midway_takes_its_coresets_up_again(fitted, photos, weights, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "fold2.coreset.json").write_text("{}", encoding="utf-8")  # stops the second fold
    request = job(photos, weights, tmp_path / "stripes", checkpoints=kept)
    refused(OutputError, r"fold2\.coreset\.json: not a whole checkpoint", tmp_path, request)
    (kept / "fold2.coreset.json").unlink()
    bank = kept / "bank.coreset.json"
    assert len(json.loads(bank.read_text(encoding="utf-8"))["picked"]) == fitted.rows
    assert {path.name for path in kept.iterdir()} == {bank.name, "fold1.coreset.json"}
    assert sums(fit(request).artifact) == sums(fitted.artifact)
    assert list(kept.iterdir()) == []


def test_a_checkpoint_folder_that_is_a_file_is_refused(photos, weights, tmp_path):
    (tmp_path / "kept").write_text("", encoding="utf-8")
    request = job(photos, weights, tmp_path / "out", checkpoints=tmp_path / "kept")
    refused(OutputError, r"kept: cannot be created .*another --checkpoint", tmp_path, request)


def test_another_seed_starts_the_bank_elsewhere_and_keeps_the_network(
    fitted, photos, weights, tmp_path
):
    report = fit(job(photos, weights, tmp_path / "out", settings={"seed": 1}))
    first, second = (Artifact.open(r.artifact).memory_bank.origins for r in (fitted, report))
    assert len(first) == len(second)
    assert first[0].tolist() != second[0].tolist()
    network = (fitted.artifact / FEATURES_ONNX).read_bytes()
    assert (report.artifact / FEATURES_ONNX).read_bytes() == network


def test_a_skipped_image_is_in_report_and_manifest_without_its_folder(spared):
    manifest = Artifact.open(spared.artifact).manifest
    assert spared.skipped == manifest.training.skipped
    (reason,) = spared.skipped
    assert reason.startswith("003.png: not a readable image")
    assert "003.png" not in manifest.training.images
    assert spared.images == 5
    assert "left out 1 without" in spared.left_out
    text = (spared.artifact / "manifest.json").read_text(encoding="utf-8")
    assert str(spared.artifact.parent) not in text


def test_a_dropped_image_leaves_what_a_fit_without_it_gives(photos, weights, tmp_path):
    report = fit(
        job(photos, weights, tmp_path / "dropped", drop_suspects=1, review=tmp_path / "review")
    )
    (reason,) = report.dropped
    name = reason.partition(":")[0]
    training = Artifact.open(report.artifact).manifest.training
    assert training.dropped == report.dropped
    assert training.images == tuple(sorted({f"{n:03}.png" for n in range(6)} - {name}))
    page = (tmp_path / "review" / "suspects.html").read_text(encoding="utf-8")
    assert page.count("<li>") == 6
    assert page.index(name) < min(page.index(other) for other in training.images)
    assert page.count("dropped</span>") == 1
    scores = [float(value) for value in re.findall(r'value="([^"]+)"', page)]
    assert scores == sorted(scores, reverse=True)
    without = shutil.copytree(photos, tmp_path / "photos")
    (without / name).unlink()
    other = fit(job(without, weights, tmp_path / "without"))
    ours, theirs = (Artifact.open(made.artifact).memory_bank for made in (report, other))
    np.testing.assert_array_equal(ours.origins, theirs.origins)
    # A network's batch of another size rounds its last digits differently.
    np.testing.assert_allclose(ours.layers[0], theirs.layers[0], rtol=1e-3, atol=1e-5)
    thresholds = [made.calibration.image_threshold for made in (report, other)]
    assert thresholds[0] == pytest.approx(thresholds[1], rel=1e-4)


def test_the_network_is_gone_before_rows_are_chosen(photos, weights, tmp_path, monkeypatch):
    module = sys.modules["patchcore_build.fitting.fit"]
    opened, alive = [], []
    open_network, prepare = module.onnx_network, Learner.prepare

    def watched_network(path):
        network = open_network(path)
        opened.append(weakref.ref(network))
        return network

    def watched_prepare(learner, store, inputs):
        alive.extend(reference() is not None for reference in opened)
        return prepare(learner, store, inputs)

    monkeypatch.setattr(module, "onnx_network", watched_network)
    monkeypatch.setattr(Learner, "prepare", watched_prepare)
    fit(job(photos, weights, tmp_path / "stripes"))
    assert alive == [False]


def test_groups_are_counted_and_a_pattern_that_groups_nothing_is_refused(photos, weights, tmp_path):
    report = fit(job(photos, weights, tmp_path / "grouped", groups=r"0(0[0-2]|0)"))
    calibration = Artifact.open(report.artifact).manifest.calibration
    assert (calibration.images, calibration.groups, calibration.folds) == (6, 4, 2)
    request = job(photos, weights, tmp_path / "out", groups="(bolt)")
    refused(DatasetError, r"--groups \(bolt\): .*got none in 000\.png", tmp_path, request)


def test_every_row_of_the_bank_is_the_patch_its_origin_names(fitted, photos):
    detector = Detector.load(fitted.artifact, threads=1)
    bank = detector.artifact.memory_bank
    names = detector.manifest.training.images
    for image in set(bank.origins[:, 0].tolist()):
        pixels, placement = preprocess(photos / names[image], detector.manifest.preprocess)
        layers = detector.features(pixels)
        result = detector.score_features(layers, placement)
        for row in np.flatnonzero(bank.origins[:, 0] == image):
            _, y, x = bank.origins[row]
            assert np.array_equal(
                bank.layers[0][row], layers[0][0, :, y, x]
            )  # to the bit, on a CPU
            assert result.nearest_rows[y, x] == row
            assert result.patch_distances[y, x] < 1e-3 * np.sqrt(bank.norms[row])


def test_a_defect_scores_higher_than_good_images_never_seen(fitted):
    detector = Detector.load(fitted.artifact, threads=1)
    good = [detector.predict(striped_photo(seed)) for seed in range(100, 104)]
    photo = striped_photo(200)
    photo[30:50, 50:80] = (250, 20, 250)
    bad = detector.predict(photo)
    assert bad.score > max(result.score for result in good)
    y, x = bad.peak
    assert 20 <= y <= 60
    assert 40 <= x <= 90


def test_a_batch_through_the_exported_network_equals_its_images_alone(fitted):
    session = open_network(fitted.artifact / FEATURES_ONNX, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    batch = session.run(["layer2", "layer3"], {"images": images})
    for number in range(3):
        alone = session.run(["layer2", "layer3"], {"images": images[number : number + 1]})
        for one, of_all in zip(alone, batch, strict=True):
            peak = np.abs(one).max()
            np.testing.assert_allclose(of_all[number], one[0], atol=1e-5 * peak)
    detector = Detector.load(fitted.artifact, threads=1)
    photos = [striped_photo(seed) for seed in (7, 8)]
    for result, photo in zip(detector.predict_batch(photos), photos, strict=True):
        np.testing.assert_array_equal(result.anomaly_map, detector.predict(photo).anomaly_map)


def test_fp16_is_refused_on_a_cpu(photos, weights, tmp_path):
    request = job(photos, weights, tmp_path / "out", settings={"precision": "fp16"})
    refused(DeviceError, r"--precision fp16: .*--precision fp32", tmp_path, request)


@pytest.mark.parametrize("device", ["ascend", "gpu"])
def test_an_absent_device_is_refused(photos, weights, tmp_path, device):
    import mindspore

    if mindspore.hal.is_available({"ascend": "Ascend", "gpu": "GPU"}[device]):
        pytest.skip(f"this machine has a device for --device {device}; run it on one without")
    request = job(photos, weights, tmp_path / "out", device=device)
    refused(DeviceError, rf"--device {device}: .*--device cpu", tmp_path, request)


def test_weights_of_another_network_are_refused_by_their_tensors(photos, tmp_path):
    from patchcore_build.backbone.extractor import random_weights

    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(random_weights("resnet34", seed=0), path)
    request = job(photos, path, tmp_path / "out")
    refused(
        WeightsError, r"weights\.safetensors: .*surplus: layer\d\.\d.*resnet34", tmp_path, request
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [(None, r"--weights FILE"), ("nowhere.pth", r"nowhere\.pth: cannot be read")],
)
def test_missing_weights_are_refused(photos, tmp_path, given, message):
    request = dataclasses.replace(job(photos, "x", tmp_path / "out"), weights=given)
    refused(WeightsError, message, tmp_path, request)


def test_a_damaged_image_and_an_empty_folder_are_refused(photos, weights, tmp_path):
    spoiled = shutil.copytree(photos, tmp_path / "photos")
    (spoiled / "003.png").write_bytes(b"damaged")
    request = job(spoiled, weights, tmp_path / "out")
    refused(ImageError, r"003\.png: .*--skip-bad", tmp_path, request)
    (tmp_path / "empty").mkdir()
    request = job(tmp_path / "empty", weights, tmp_path / "out")
    refused(DatasetError, r"empty: expected images", tmp_path, request)


def test_an_artifact_is_never_overwritten(fitted, photos, weights):
    before = sums(fitted.artifact)
    with pytest.raises(OutputError, match=r"stripes: exists already"):
        fit(job(photos, weights, fitted.artifact))
    assert sums(fitted.artifact) == before


@pytest.mark.skipif(
    not (SHARED / "data" / "mvtec_reduced" / "hazelnut").is_dir(),
    reason="needs ../shared/data/mvtec_reduced/hazelnut and ../shared/weights",
)
def test_on_real_photographs_defects_are_told_from_good_parts(tmp_path):
    dataset = SHARED / "data" / "mvtec_reduced"
    report = fit(
        FitJob(
            images=dataset / "hazelnut" / "train" / "good",
            category="hazelnut",
            output=tmp_path / "hazelnut",
            config=make_config("paper", backbone="resnet18"),
            weights=str(SHARED / "weights" / "resnet18-layers123.pth"),
        )
    )
    assert report.images == 50
    result = evaluate(Detector.load(report.artifact), dataset, "hazelnut")
    assert len(result.images) == 10
    assert result.problems == ()
    # Measured: image 1.000 (8 defects, 2 good images), pixel 0.989.
    assert result.image_auroc >= 0.95
    assert result.pixel_auroc >= 0.97
    assert result.image_confusion.true_positives >= 7


def test_a_fit_with_tiles_a_region_and_suspects_dropped_checks_itself(photos, weights, tmp_path):
    """A real network: tiles are exported, learned, searched, calibrated and reviewed."""
    settings = {"resize_px": 128, "tile_px": 64, "tile_overlap_px": 32}
    request = job(
        photos, weights, tmp_path / "artifact", settings=settings,
        roi="0.1,0.1 0.9,0.1 0.9,0.9 0.1,0.9", review=tmp_path / "review", drop_suspects=1,
    )  # fmt: skip
    report = fit(request)
    artifact = Artifact.open(report.artifact)
    artifact.verify()
    tiling = artifact.manifest.tiling
    assert report.tiles == tiling.rows * tiling.columns > 4
    assert report.region_share == artifact.region.share < 0.7
    assert (report.images, len(report.dropped)) == (5, 1)
    inside = artifact.region.patches
    assert inside[tuple(artifact.memory_bank.origins[:, 1:].T)].all()
    seen = sum(
        int(inside[top // 8 :, left // 8 :][:8, :8].sum())
        for top, left in artifact.manifest.grid.corners_px
    )
    assert report.rows == round(0.05 * 5 * seen)
    assert all(step.passed for step in run_selftest(artifact, threads=1))
    assert (tmp_path / "review" / "suspects.html").is_file()
