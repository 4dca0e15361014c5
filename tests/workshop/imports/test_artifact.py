"""Laws of an imported artifact: it scores by the original's formulas and knows what it lacks."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from foreign_models import amazon_folder, checkpoint, settings, specs, state_dict
from patchcore_build.cli.main import main
from patchcore_build.errors import ModelError, WeightsError
from patchcore_runtime.artifact.folder import Artifact
from patchcore_runtime.detector import Detector
from patchcore_runtime.errors import PatchCoreError, SettingError, ThresholdError
from patchcore_runtime.image.preprocess import fit_to_input
from patchcore_runtime.selftest import run_selftest
from torch_files import pack, zip_file

pytest.importorskip("mindspore", reason="an import exports the network with MindSpore")

SIDE, LAYERS, CHANNELS = 64, ("layer1", "layer3"), (64, 256)
ROWS, NEIGHBOURS = 40, 5


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five smooth images of 80 x 96 pixels."""
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(1)
    for number in range(5):
        coarse = rng.integers(0, 255, (10, 12, 3), np.uint8)
        image = Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.png")
    return folder


def torch_weights(layers: tuple[str, ...]) -> dict[str, Any]:
    """Random weights of resnet18 under PyTorch's names."""
    from patchcore_build.backbone.device import open_device
    from patchcore_build.backbone.extractor import random_weights

    open_device()
    leaves = {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }
    weights = {}
    for name, array in random_weights("resnet18", layers, seed=2).items():
        module, _, leaf = name.rpartition(".")
        weights[f"{module}.{leaves.get(leaf, leaf)}"] = array
    return weights


def bank_of(columns: int) -> np.ndarray:
    return np.abs(np.random.default_rng(3).standard_normal((ROWS, columns))).astype("<f4")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of anomalib: layer1 and layer3 of resnet18, 72 x 88 cropped to 64 x 64."""
    arrays = state_dict(torch_weights(LAYERS), bank_of(sum(CHANNELS)), _pixel_threshold=1.5)
    path = tmp_path_factory.mktemp("model") / "model.ckpt"
    path.write_bytes(
        checkpoint(
            arrays,
            hyper_parameters=settings(layers=list(LAYERS), num_neighbors=NEIGHBOURS),
            anomalib_pre_processor_config=specs(size=(72, 88), crop=(SIDE, SIDE)),
        )
    )
    return path


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["import", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def imported(model: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("artifact") / "part"
    arguments = ["import", "anomalib", str(model), "--images", str(photographs)]
    assert main([*arguments, "--output", str(output)]) == 0
    return output


def patch_vectors(detector: Detector, pixels: np.ndarray) -> np.ndarray:
    """Patch vectors (P, D): layers of the artifact's network, upsampled as torch does."""
    first, second = (layer[0] for layer in detector.features(pixels))
    stride = first.shape[1] // second.shape[1]
    fine = second
    for axis in (1, 2):
        count = first.shape[axis]
        place = np.clip((np.arange(count) + 0.5) / stride - 0.5, 0, second.shape[axis] - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, second.shape[axis] - 1)
        part = (place - low).reshape((-1, 1) if axis == 1 else (-1,))
        fine = np.take(fine, low, axis) * (1 - part) + np.take(fine, high, axis) * part
    return np.concatenate([first, fine]).reshape(first.shape[0] + fine.shape[0], -1).T


def distances(vectors: np.ndarray, bank: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors[:, None] - bank[None], axis=2)


def test_an_anomalib_model_scores_as_its_formulas_say(imported: Path, photographs: Path) -> None:
    bank = bank_of(sum(CHANNELS)).astype(np.float64)
    detector = Detector.load(imported)
    for path in sorted(photographs.iterdir())[:2]:
        pixels, _ = fit_to_input(Image.open(path), detector.manifest.preprocess)
        assert pixels.shape == (SIDE, SIDE, 3)
        vectors = patch_vectors(detector, pixels)
        found = distances(vectors, bank)
        nearest = found.min(axis=1)
        worst = int(nearest.argmax())
        row = int(found[worst].argmin())
        support = np.argsort(distances(bank[[row]], bank)[0], kind="stable")[:NEIGHBOURS]
        powers = np.exp(found[worst, support] - found[worst, support].max())
        expected = (1 - powers[0] / powers.sum()) * nearest[worst]
        result = detector.predict(path)
        assert result.score == pytest.approx(expected, rel=1e-4)
        grid = nearest.reshape(SIDE // 4, SIDE // 4).repeat(4, axis=0).repeat(4, axis=1)
        smooth = gaussian_filter(grid, 4, mode="mirror")
        assert np.abs(result.anomaly_map - smooth).max() < 1e-4 * np.ptp(smooth)


def test_an_imported_artifact_passes_its_self_test_and_knows_no_held_out_score(
    imported: Path,
) -> None:
    artifact = Artifact.open_whole(imported)
    assert all(step.passed for step in run_selftest(artifact))
    manifest = artifact.manifest
    calibration = manifest.calibration
    assert (calibration.image_threshold, calibration.pixel_threshold) == (2, 1.5)
    assert (calibration.images, calibration.target_fpr, calibration.ranks) == (0, 0, ())
    assert "not known" in calibration.method
    assert manifest.training.images == ()
    assert set(artifact.memory_bank.origins.ravel().tolist()) == {-1}
    np.testing.assert_array_equal(
        artifact.memory_bank.whole_rows(slice(None)), bank_of(sum(CHANNELS))
    )
    assert manifest.monitoring.images == 5
    assert manifest.provenance["imported"]["library"] == "anomalib"


def test_what_is_not_known_is_refused_and_not_invented(imported: Path, photographs: Path) -> None:
    detector = Detector.load(imported)
    path = next(photographs.iterdir())
    result = detector.predict(path)
    assert result.p_value == 1
    with pytest.raises(SettingError, match="a bank that knows the images of its rows"):
        detector.explain(result)
    with pytest.raises(ThresholdError, match="an artifact with held-out scores, got one that has"):
        Detector.load(imported, target_fpr=0.01)
    assert Detector.load(imported, threshold=9.0).predict(path).threshold == 9


def test_the_same_model_gives_the_same_bytes(
    imported: Path, model: Path, photographs: Path, tmp_path: Path
) -> None:
    arguments = ["import", "anomalib", str(model), "--images", str(photographs)]
    assert main([*arguments, "--output", str(tmp_path / "again")]) == 0
    sums = [(folder / "SHA256SUMS").read_text() for folder in (imported, tmp_path / "again")]
    assert sums[0] == sums[1]


def test_a_folder_of_amazon_scores_as_its_formulas_say(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers, columns = ("layer2", "layer3"), 96
    bank = bank_of(columns)
    folder = amazon_folder(tmp_path / "model", bank)
    weights = tmp_path / "weights.pth"
    weights.write_bytes(zip_file(pack(torch_weights(layers))))
    arguments = ["amazon", str(folder), "--images", str(photographs), "--output"]
    arguments += [str(tmp_path / "part"), "--weights", str(weights), "--resize-px", "72"]
    code, out, _ = run(
        [*arguments, "--threshold", "80", "--pixel-threshold", "50", "--json"], capsys
    )
    assert code == 0
    report = json.loads(out)
    assert report["channels"] == [48, 48]
    assert report["calibration"]["heatmap"] == {"low": 0, "high": 100}
    detector = Detector.load(tmp_path / "part")
    path = min(photographs.iterdir())
    pixels, _ = fit_to_input(Image.open(path), detector.manifest.preprocess)
    squares = distances(patch_vectors(detector, pixels), bank).min(axis=1) ** 2
    result = detector.predict(path)
    assert result.score == pytest.approx(squares.max(), rel=1e-4)
    grid = Image.fromarray(squares.reshape(8, 8).astype(np.float32))
    fine = np.asarray(grid.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    smooth = gaussian_filter(fine, 4, mode="reflect")
    assert np.abs(result.anomaly_map - smooth).max() < 1e-3 * np.ptp(smooth)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda arrays: arrays.pop("model.feature_extractor.feature_extractor.bn1.weight"),
         WeightsError, "1 missing: bn1.gamma"),
        (lambda arrays: arrays.update({"model.memory_bank": bank_of(99)}),
         ModelError, "expected rows of 320 numbers for layer1 layer3 of resnet18, got 99"),
    ],
)  # fmt: skip
def test_weights_and_rows_that_do_not_fit_leave_nothing_behind(
    photographs: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    error: type[PatchCoreError],
    words: str,
) -> None:
    from patchcore_build.imports.anomalib import open_anomalib
    from patchcore_build.imports.artifact import ImportJob, import_detector

    arrays = state_dict(torch_weights(LAYERS), bank_of(sum(CHANNELS)))
    change(arrays)
    path = tmp_path / "model.ckpt"
    parts = {
        "hyper_parameters": settings(layers=list(LAYERS)),
        "anomalib_pre_processor_config": specs(size=(SIDE, SIDE)),
    }
    path.write_bytes(checkpoint(arrays, **parts))
    job = ImportJob(images=photographs, category="part", output=tmp_path / "part")
    with pytest.raises(error) as caught:
        import_detector(open_anomalib(path), job)
    assert words in str(caught.value)
    assert sorted(tmp_path.iterdir()) == [path]


def test_images_that_were_not_learned_give_thresholds_and_p_values(
    model: Path, tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "part"
    common = ["anomalib", str(model), "--images", str(photographs), "--output", str(output)]
    code, out, _ = run([*common, "--target-fpr", "0.2", "--json"], capsys)
    assert code == 0
    detector = Detector.load(output)
    calibration = detector.manifest.calibration
    found = sorted(detector.predict(path).score for path in photographs.iterdir())
    np.testing.assert_allclose(calibration.image_scores.values, found, rtol=1e-6)
    assert (calibration.images, calibration.target_fpr) == (5, 0.2)
    assert calibration.image_threshold >= found[-2]
    assert calibration.image_scores.bias == 1
    assert "good images given at the import" in calibration.method
    assert detector.predict(min(photographs.iterdir())).p_value < 1 or found[0] == found[-1]
    assert json.loads(out)["alarms"] <= 1
    assert all(step.passed for step in run_selftest(Artifact.open_whole(output)))


def test_a_model_without_thresholds_needs_some(
    model: Path, photographs: Path, tmp_path: Path
) -> None:
    from patchcore_build.imports.anomalib import open_anomalib
    from patchcore_build.imports.artifact import ImportJob, import_detector

    bare = dataclasses.replace(open_anomalib(model), thresholds=None)
    job = ImportJob(images=photographs, category="part", output=tmp_path / "part")
    with pytest.raises(ModelError, match="or --target-fpr, got none"):
        import_detector(bare, job)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["anomalib", "m.ckpt", "--weights", "w.pth"], "--weights: expected none for anomalib"),
        (["anomalib", "m.ckpt", "--resize-px", "256"], "--resize-px: expected none for anomalib"),
        (["amazon", "m", "--resize-px", "256"], "--weights: expected it for amazon"),
        (["amazon", "m", "--weights", "w.pth"], "--resize-px: expected it for amazon"),
        (["anomalib", "m.ckpt", "--threshold", "1"], "expected both or none, got one"),
        (["anomalib", "m.ckpt", "--target-fpr", "1"], "--target-fpr: expected in (0, 1), got 1"),
        (
            ["anomalib", "m.ckpt", "--target-fpr", "0.1", "--pixel-threshold", "2"],
            "--target-fpr: expected it without --threshold",
        ),
        (
            ["anomalib", "m.ckpt", "--threshold", "1", "--pixel-threshold", "-1"],
            "--pixel-threshold: expected a number above 0",
        ),
    ],
)
def test_options_that_the_library_does_not_use_are_refused(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--images", str(tmp_path), "--output", str(tmp_path / "part")]
    with pytest.raises(SystemExit) as caught:
        main(["import", *arguments, *common])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_too_few_good_images_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (96, 80)).save(tmp_path / "one.png")
    output = tmp_path / "part"
    arguments = ["anomalib", str(model), "--images", str(tmp_path), "--output", str(output)]
    code, _, error = run([*arguments, "--target-fpr", "0.1"], capsys)
    assert code == 1
    assert "--target-fpr: expected at least two different images, got 1" in error
    assert not output.exists()
