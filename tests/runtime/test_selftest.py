"""Laws of the self-test: it passes on the machine that made it, and names the failing stage."""

import dataclasses
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from artifact_factory import write_network
from patchcore_build.errors import PatchCoreError
from patchcore_runtime import Artifact, ArtifactError, Detector, ImageError
from patchcore_runtime.selftest import layer_magnitudes, run_selftest


def _steps(folder, **selftest):
    artifact = Artifact.open(folder, verify=False)
    changed = dataclasses.replace(artifact.manifest.selftest, **selftest)
    manifest = dataclasses.replace(artifact.manifest, selftest=changed)
    return {step.name: step for step in run_selftest(Artifact(folder, manifest), threads=1)}


def test_an_artifact_passes_where_it_was_made(tiny_artifact, cropped_artifact):
    for folder in (tiny_artifact, cropped_artifact):
        steps = _steps(folder)
        assert list(steps) == ["input", "features", "map", "score"]
        assert all(step.passed for step in steps.values())
        assert steps["input"].tolerance == 0
        assert steps["features"].difference < 1e-6
        assert steps["map"].difference < 1e-5
        assert steps["score"].difference < 1e-5


def test_the_stored_image_raises_the_alarm_where_its_defect_is(tiny_artifact):
    result = Detector.load(tiny_artifact, threads=1).predict(tiny_artifact / "selftest.png")
    assert result.is_anomalous
    y, x = np.unravel_index(result.anomaly_map.argmax(), result.anomaly_map.shape)
    top, left, bottom, right = Artifact.open(tiny_artifact).manifest.selftest.defect_box
    assert top - 8 <= y < bottom + 8
    assert left - 8 <= x < right + 8


@pytest.mark.parametrize("factor", [1.0005, 0.9995])
def test_a_score_within_the_tolerance_passes(tiny_artifact, factor):
    score = Artifact.open(tiny_artifact).manifest.selftest.score
    assert _steps(tiny_artifact, score=score * factor)["score"].passed


@pytest.mark.parametrize("factor", [1.002, 0.998, 0.0, 2.0])
def test_a_score_beyond_the_tolerance_fails_alone(tiny_artifact, factor):
    score = Artifact.open(tiny_artifact).manifest.selftest.score
    steps = _steps(tiny_artifact, score=score * factor)
    assert not steps["score"].passed
    assert steps["input"].passed
    assert steps["map"].passed


def test_a_network_that_computes_differently_fails_at_the_features(own_artifact):
    write_network(own_artifact / "features.onnx", height=64, width=96, seed=1)
    steps = _steps(own_artifact)
    assert steps["input"].passed
    assert not steps["features"].passed


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("factor", [1.002, 0.998, 0.0])
def test_each_of_the_layers_magnitudes_counts(tiny_artifact, place, factor):
    stored = list(Artifact.open(tiny_artifact).manifest.selftest.layer_magnitudes)
    stored[place] *= factor
    steps = _steps(tiny_artifact, layer_magnitudes=tuple(stored))
    assert [name for name, step in steps.items() if not step.passed] == ["features"]


def test_magnitudes_are_mean_and_largest_of_each_layer_and_show_what_is_not_finite():
    layer2, layer3 = np.float32([[1, -3], [0, 0]]), np.float32([2, -2])
    assert layer_magnitudes((layer2, layer3)) == (1, 3, 2, 2)
    assert np.isnan(layer_magnitudes((layer2, np.float32([np.nan, 1])))[2])


def test_one_grey_level_in_one_pixel_of_the_input_fails(own_artifact):
    path = own_artifact / "selftest_input.png"
    pixels = np.array(Image.open(path))
    pixels[63, 95, 2] ^= 1
    Image.fromarray(pixels).save(path)
    step = _steps(own_artifact)["input"]
    assert step.difference == 1
    assert not step.passed


@pytest.mark.parametrize("change", [0.01, -0.01, np.nan, np.inf])
def test_one_pixel_of_the_map_beyond_the_tolerance_fails(own_artifact, change):
    path = own_artifact / "selftest_map.npy"
    stored = np.load(path)
    stored[0, 0] += change * stored.max()
    np.save(path, stored)
    assert not _steps(own_artifact)["map"].passed


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npy_of_shape(shape):
    """Write an .npy file with a header that declares more than the file contains."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(100)


def _zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("map.npy", _npy(np.zeros((64, 96), np.float32)))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a NumPy array"),
        (b"text", "not a NumPy array"),
        (_npy(np.zeros((64, 96), np.float32))[:-4], "not a NumPy array"),
        (_npy_of_shape((64, 96)), "not a NumPy array"),
        (_npy_of_shape((2**40, 2**20)), "not a NumPy array"),
        (_npy_of_shape((2**62, 2**62)), "not a NumPy array"),
        (_zip(), "not a NumPy array"),
        (_npy(np.array([[print]], dtype=object)), "not a NumPy array"),
        (_npy(np.zeros((64, 96))), "expected float32"),
        (_npy(np.zeros((64, 96, 1), np.float32)), "expected float32"),
        (_npy(np.zeros((96, 64), np.float32)), "expected 64 x 96"),
    ],
    ids=range(11),  # a ZIP archive contains the time, and workers must agree on names
)
def test_a_stored_map_of_another_kind_is_refused(own_artifact, content, message):
    (own_artifact / "selftest_map.npy").write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"selftest_map\.npy: {message}") as caught:
        _steps(own_artifact)
    assert "\n" not in str(caught.value)


def test_a_stored_input_of_another_size_is_refused(own_artifact):
    Image.new("RGB", (64, 64)).save(own_artifact / "selftest_input.png")
    with pytest.raises(ArtifactError, match=r"selftest_input\.png: expected 64 x 96"):
        _steps(own_artifact)


@pytest.mark.parametrize("name", ["selftest.png", "selftest_input.png", "selftest_map.npy"])
def test_a_missing_file_of_the_self_test_is_named(own_artifact, name):
    (own_artifact / name).unlink()
    with pytest.raises((ArtifactError, ImageError), match=name.replace(".", r"\.")) as caught:
        _steps(own_artifact)
    assert isinstance(caught.value, PatchCoreError)
