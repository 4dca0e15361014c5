"""Laws of `fit --quantize int8`: the artifact, what it says of its accuracy, both programs."""

import dataclasses
import json
import shutil
import subprocess

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from artifact_factory import striped_photo
from cpp_binary import BINARY, needs_binary
from patchcore_build import FitJob, fit, make_config
from patchcore_build.cli.main import main
from patchcore_build.errors import AccuracyError
from patchcore_build.export.quantization import quantize_features
from patchcore_build.fitting.float32_twin import NOT_MEASURED
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.artifact.folder import FEATURES_MINDIR, FEATURES_ONNX, SHA256SUMS
from patchcore_runtime.cli.main import main as runtime_main
from patchcore_runtime.selftest import run_selftest

SETTINGS = {"backbone": "resnet18", "resize_px": 64, "coreset_ratio": 0.05, "folds": 2}


def int8_job(images, output, **changes):
    config = make_config("full-frame", **SETTINGS, feature_precision="int8")
    given = {"images": images, "category": "stripes", "config": config, "weights": "random"}
    return FitJob(output=output, **{**given, **changes})


@pytest.fixture(scope="module")
def int8_fit(tmp_path_factory, photos):
    """The report of a fit without a test set, its artifact only for reading."""
    return fit(int8_job(photos, tmp_path_factory.mktemp("int8") / "stripes"))


@pytest.fixture(scope="module")
def float32_fit(tmp_path_factory, photos):
    """The same in float32."""
    job = int8_job(photos, tmp_path_factory.mktemp("float32") / "stripes")
    return fit(dataclasses.replace(job, config=make_config("full-frame", **SETTINGS)))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, photos):
    """A category `stripes` with a test set: good images, and some with a square and its mask."""
    root = tmp_path_factory.mktemp("dataset")
    category = root / "stripes"
    shutil.copytree(photos, category / "train" / "good")
    for kind in ("test/good", "test/square", "ground_truth/square"):
        (category / kind).mkdir(parents=True)
    for seed in range(3):
        photo = striped_photo(50 + seed)
        Image.fromarray(photo).save(category / "test" / "good" / f"{seed}.png")
        mask = np.zeros(photo.shape[:2], np.uint8)
        mask[20:50, 30:70] = 255
        photo[mask > 0] = (250, 20, 250)
        Image.fromarray(photo).save(category / "test" / "square" / f"{seed}.png")
        Image.fromarray(mask).save(category / "ground_truth" / "square" / f"{seed}_mask.png")
    return root


def test_an_int8_artifact_is_complete_without_mindir_and_passes_its_selftest(int8_fit):
    artifact = Artifact.open(int8_fit.artifact)
    artifact.verify()
    assert artifact.manifest.features.precision == "int8"
    assert {path.name for path in int8_fit.artifact.iterdir()} == {*artifact.files, SHA256SUMS}
    assert not (int8_fit.artifact / FEATURES_MINDIR).exists()
    assert all(step.passed for step in run_selftest(artifact, threads=1))
    assert list(int8_fit.export_difference) == [FEATURES_ONNX]


def test_bank_and_thresholds_come_from_the_int8_graph_and_the_patches_from_float32(
    int8_fit, float32_fit, photos
):
    ours, theirs = (Artifact.open(f.artifact).memory_bank for f in (int8_fit, float32_fit))
    np.testing.assert_array_equal(ours.origins, theirs.origins)
    assert not np.array_equal(ours.layers[0], theirs.layers[0])
    assert int8_fit.calibration.image_threshold != float32_fit.calibration.image_threshold
    detector = Detector.load(int8_fit.artifact, threads=1)
    image, y, x = (int(number) for number in ours.origins[0])
    photo = photos / detector.manifest.training.images[image]
    result = detector.predict(photo)
    assert result.patch_distances[y, x] < 1e-3 * result.patch_distances.max()


def test_without_a_test_set_the_manifest_says_that_auroc_was_not_measured(int8_fit):
    manifest = Artifact.open(int8_fit.artifact).manifest
    facts = manifest.provenance["quantization"]
    assert facts == int8_fit.quantization
    assert facts["auroc"] == NOT_MEASURED
    assert facts["calibration_images"] == list(range(6))
    assert 0 < facts["layer_errors"]["layer2"] < 0.1
    assert "mind_ir_version" not in manifest.provenance
    assert manifest.selftest.map_tolerance == 0.02


def test_a_float32_artifact_says_nothing_of_quantization(float32_fit):
    assert float32_fit.quantization is None
    manifest = Artifact.open(float32_fit.artifact).manifest
    assert "quantization" not in manifest.provenance
    assert manifest.selftest.map_tolerance == 0.001


def test_with_a_test_set_both_aurocs_stand_in_the_manifest(dataset, tmp_path, capsys):
    arguments = [
        "fit", "--dataset", dataset, "--category", "stripes", "--backbone", "resnet18",
        "--weights", "random", "--resize-px", "64", "--coreset-ratio", "0.05", "--folds", "2",
        "--quantize", "int8", "--force", "--output", tmp_path / "out",
    ]  # fmt: skip
    assert main([str(argument) for argument in arguments]) == 0
    told = capsys.readouterr().out
    auroc = Artifact.open(tmp_path / "out").manifest.provenance["quantization"]["auroc"]
    assert auroc["float32"]["image"] == 1
    for name in ("image", "pixel"):
        difference = auroc["int8"][name] - auroc["float32"][name]
        assert auroc["difference"][name] == pytest.approx(difference, abs=1e-12)
        assert f"int8: {name} AUROC {auroc['int8'][name]:.4f}, float32" in told


def spoiled(source, target, images, *, seed):
    """Quantize, then empty one scale: a network that int8 ruins."""
    facts = quantize_features(source, target, images, seed=seed)
    model = onnx.load(target)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_quantized"):
            array = np.roll(numpy_helper.to_array(tensor), 1, axis=0)[::-1]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array) * 0, tensor.name))
    target.write_bytes(model.SerializeToString(deterministic=True))
    return facts


def test_a_ruinous_quantization_is_refused_and_taken_with_force(dataset, tmp_path, monkeypatch):
    # The one place where a test swaps a part: no real network of this size loses so much.
    monkeypatch.setattr("patchcore_build.export.quantization.quantize_features", spoiled)
    images = dataset / "stripes" / "train" / "good"
    job = int8_job(images, tmp_path / "out", test_set=dataset)
    expected = r"stripes: --quantize int8: expected (image|pixel) AUROC .*--force$"
    with pytest.raises(AccuracyError, match=expected):
        fit(job)
    assert list(tmp_path.iterdir()) == []
    report = fit(dataclasses.replace(job, force=True))
    assert min(report.quantization["auroc"]["difference"].values()) < -0.005


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "scattering"], "backbone: expected a ResNet for --quantize int8"),
        (["--precision", "fp16"], "precision: expected fp32 for int8, got fp16"),
    ],
)
def test_what_cannot_be_int8_is_refused_in_one_line(options, message, photos, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--normal", str(photos), "--quantize", "int8", "--output", str(tmp_path / "o"),
              *options])  # fmt: skip
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_runtime_checks_scores_and_describes_an_int8_artifact(int8_fit, photos, capsys):
    folder = str(int8_fit.artifact)
    assert runtime_main(["check", folder, "--threads", "1"]) == 0
    assert runtime_main(["score", folder, str(photos)]) == 0
    capsys.readouterr()
    assert runtime_main(["info", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["features"]["precision"] == "int8"


@needs_binary
def test_the_cpp_runner_checks_an_int8_artifact_and_scores_as_python_does(int8_fit, photos):
    folder = str(int8_fit.artifact)
    subprocess.run([BINARY, folder, "--selftest"], capture_output=True, check=True)
    done = subprocess.run([BINARY, folder, photos], capture_output=True, text=True, check=True)
    detector = Detector.load(folder, threads=1)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 6
    for row in rows:
        result = detector.predict(row["image"])
        assert row["score"] == pytest.approx(result.score, rel=1e-4)
        assert row["is_anomalous"] == result.is_anomalous
