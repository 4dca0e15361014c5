"""Laws of int8: quantizing a network, what it costs, and `fit --quantize int8`."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from artifact_factory import striped_photo
from cpp_binary import BINARY, needs_binary
from patchcore_build import FitJob, fit, make_config
from patchcore_build.cli import main
from patchcore_build.errors import AccuracyError, ExportError
from patchcore_build.float32_twin import (
    NOT_MEASURED,
    Auroc,
    compare_auroc,
    layer_errors,
    require_small_loss,
    unseen_images,
)
from patchcore_build.quantization import CALIBRATION_IMAGES, quantize_features, sample_images
from patchcore_runtime import Artifact, Detector
from patchcore_runtime.artifact import FEATURES_MINDIR, FEATURES_ONNX, SHA256SUMS
from patchcore_runtime.cli import main as runtime_main
from patchcore_runtime.selftest import run_selftest
from patchcore_runtime.session import open_session

LAYERS = ["layer2", "layer3"]


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, ["B", *shape])


def write_small_network(path):
    """As `export_onnx` writes: stem, BatchNorm, pool, residual block, averaged outputs."""
    rng = np.random.default_rng(3)
    nodes, weights = [], []

    def convolve(source, target, shape, stride):
        kernel = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        numbers = [np.ones(shape[0]), rng.standard_normal(shape[0]) / 4, np.zeros(shape[0])]
        arrays = [kernel, *numbers, np.ones(shape[0])]
        names = [f"{target}.{part}" for part in ("weight", "gamma", "beta", "mean", "variance")]
        for name, array in zip(names, arrays, strict=True):
            weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        side = shape[2] // 2
        nodes.append(helper.make_node(
            "Conv", [source, names[0]], [f"{target}_raw"], name=target, strides=[stride] * 2,
            pads=[side] * 4,
        ))  # fmt: skip
        nodes.append(
            helper.make_node("BatchNormalization", [f"{target}_raw", *names[1:]], [target])
        )

    def node(kind, sources, target, **attributes):
        nodes.append(helper.make_node(kind, sources, [target], **attributes))

    node("Cast", ["images"], "floats", to=TensorProto.FLOAT)
    node("Transpose", ["floats"], "planes", perm=[0, 3, 1, 2])
    weights.append(numpy_helper.from_array(np.float32(1 / 64), "scale"))
    node("Mul", ["planes", "scale"], "scaled")
    convolve("scaled", "stem", (8, 3, 3, 3), 2)
    node("Relu", ["stem"], "stem_relu")
    pool = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    node("MaxPool", ["stem_relu"], "pooled", strides=[2, 2], **pool)
    convolve("pooled", "first", (8, 8, 3, 3), 2)
    convolve("pooled", "shortcut", (8, 8, 1, 1), 2)
    node("Add", ["first", "shortcut"], "sum")
    node("Relu", ["sum"], "body2")
    convolve("body2", "second", (12, 8, 3, 3), 2)
    node("Relu", ["second"], "body3")
    for body, layer in (("body2", "layer2"), ("body3", "layer3")):
        node("AveragePool", [body], layer, strides=[1, 1], count_include_pad=1, **pool)
    outputs = [
        value("layer2", TensorProto.FLOAT, (8, 8, 8)),
        value("layer3", TensorProto.FLOAT, (12, 4, 4)),
    ]
    images = value("images", TensorProto.UINT8, (64, 64, 3))
    graph = helper.make_graph(nodes, "small", [images], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def pictures(count, *, seed=0, brightness=1.0):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (count, 64, 64, 3)) * brightness).astype(np.uint8)


def layers_of(path, images):
    return open_session(path, threads=1).run(LAYERS, {"images": images})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small float32 network."""
    return write_small_network(tmp_path_factory.mktemp("network") / "features.onnx")


@pytest.fixture(scope="module")
def small_int8(small):
    """Its int8 twin."""
    target = small.with_name("int8.onnx")
    quantize_features(small, target, pictures(20), seed=0)
    return target


def test_the_signature_survives(small, small_int8):
    before, after = onnx.load(small).graph, onnx.load(small_int8).graph
    assert list(before.input) == list(after.input)
    assert list(before.output) == list(after.output)
    assert after.output[0].type.tensor_type.shape.dim[0].dim_param == "B"
    assert {tensor.data_location for tensor in after.initializer} == {TensorProto.DEFAULT}


def test_the_same_network_pictures_and_seed_give_the_same_bytes_in_another_process(
    small, small_int8, tmp_path
):
    np.save(tmp_path / "pictures.npy", pictures(20))
    code = (
        "import sys, numpy as np; from pathlib import Path; "
        "from patchcore_build.quantization import quantize_features; "
        "quantize_features(Path(sys.argv[1]), Path('out.onnx'), np.load('pictures.npy'), seed=0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, small], cwd=tmp_path, capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")  # the quantizer's own talk is kept away
    assert (tmp_path / "out.onnx").read_bytes() == small_int8.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx", "pictures.npy"]


def test_int8_stays_near_float32(small, small_int8):
    images = pictures(5, seed=1)
    for near, true in zip(layers_of(small_int8, images), layers_of(small, images), strict=True):
        assert near.shape == true.shape
        assert near.dtype == np.float32
        error = np.linalg.norm(near - true) / np.linalg.norm(true)
        assert 0 < error < 0.03  # measured 0.01


def test_no_pair_of_products_overflows_16_bits(small_int8):
    constants = [numpy_helper.to_array(t) for t in onnx.load(small_int8).graph.initializer]
    weights = [array.astype(int) for array in constants if array.dtype == np.int8 and array.ndim]
    largest = max(int(np.abs(array).max()) for array in weights)
    assert largest >= 60  # the range that there is, is used
    assert 2 * 255 * largest <= 32767


def test_ranges_come_from_the_pictures(small, small_int8, tmp_path):
    dark = tmp_path / "dark.onnx"
    quantize_features(small, dark, pictures(20, brightness=0.2), seed=0)

    def scales(path):
        constants = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
        return {n: float(v) for n, v in constants.items() if n.endswith("_scale") and v.ndim == 0}

    bright, dim = scales(small_int8), scales(dark)
    assert bright.keys() == dim.keys()
    assert len(bright) > 3
    assert all(dim[name] < bright[name] for name in bright)


def loaded_nodes(path, folder):
    """What onnxruntime runs of a file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "loaded.onnx").graph.node


def test_only_the_first_convolution_stays_float_once_the_file_is_loaded(small_int8, tmp_path):
    kinds = Counter(node.op_type for node in loaded_nodes(small_int8, tmp_path))
    integer = (kinds["QLinearConv"], kinds["QLinearAdd"])
    assert integer == (3, 1)
    floating = (kinds["Conv"], kinds["Add"], kinds["Pad"], kinds["BatchNormalization"])
    assert floating == (1, 0, 0, 0)


def test_the_first_pool_works_on_floats_once_the_file_is_loaded(small_int8, tmp_path):
    nodes = loaded_nodes(small_int8, tmp_path)
    made_by = {name: node for node in nodes for name in node.output}
    (pool,) = [node for node in nodes if node.op_type == "MaxPool"]
    assert made_by[pool.input[0]].op_type in ("Conv", "ReorderOutput")
    (rounding,) = [node for node in nodes if node.op_type == "QuantizeLinear"]
    assert made_by[rounding.input[0]].op_type == "Max"


def test_a_batch_gives_what_its_pictures_give_alone(small_int8):
    images = pictures(3, seed=2)
    whole = layers_of(small_int8, images)
    for number in range(3):
        for alone, batch in zip(layers_of(small_int8, images[number, None]), whole, strict=True):
            np.testing.assert_allclose(alone[0], batch[number], rtol=0, atol=1e-5)


def test_the_sample_is_drawn_from_all_pictures_by_the_seed():
    chosen = sample_images(1000, seed=0)
    assert len(set(chosen.tolist())) == CALIBRATION_IMAGES
    assert chosen.tolist() == sorted(chosen.tolist())
    assert chosen.max() > 900
    assert sample_images(1000, seed=1).tolist() != chosen.tolist()
    assert sample_images(5, seed=7).tolist() == [0, 1, 2, 3, 4]


def test_a_network_without_anything_to_quantize_is_refused(tmp_path):
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["floats"], ["layer2"]),
        helper.make_node("Neg", ["floats"], ["layer3"]),
    ]
    shape = (64, 64, 3)
    outputs = [value(name, TensorProto.FLOAT, shape) for name in LAYERS]
    graph = helper.make_graph(nodes, "bare", [value("images", TensorProto.UINT8, shape)], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    path = tmp_path / "bare.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"bare\.onnx: expected convolutions to quantize, got"):
        quantize_features(path, tmp_path / "out.onnx", pictures(2), seed=0)
    assert not (tmp_path / "out.onnx").exists()


def test_layer_errors_are_zero_of_itself_and_relative_to_float32():
    def network(factor):
        def run(images):
            means = images.astype(np.float32).mean(axis=(1, 2, 3))[:, None, None, None]
            return means * factor, 2 * means

        return run

    images = pictures(11)  # more than one batch
    assert layer_errors(network(1), network(1), images) == {"layer2": 0, "layer3": 0}
    errors = layer_errors(network(1), network(0.9), images)
    assert errors["layer2"] == pytest.approx(0.1, rel=1e-5)
    assert errors["layer3"] == 0


def test_errors_are_measured_on_pictures_that_gave_no_ranges_where_there_are_some():
    seen = list(range(0, 100, 2))
    chosen = unseen_images(100, seen)
    assert len(chosen) == 16
    assert not set(chosen.tolist()) & set(seen)
    assert unseen_images(3, [0, 1, 2]).tolist() == [0, 1, 2]
    assert unseen_images(3, [0, 2]).tolist() == [1]


def test_a_loss_is_refused_above_its_bound_and_a_gain_never():
    float32 = Auroc(image=0.95, pixel=0.9)
    require_small_loss(float32, Auroc(image=0.9451, pixel=0.8951), where="tiles")
    require_small_loss(float32, Auroc(image=1.0, pixel=1.0), where="tiles")
    require_small_loss(float32, Auroc(image=None, pixel=None), where="tiles")
    with pytest.raises(AccuracyError) as caught:
        require_small_loss(float32, Auroc(image=0.96, pixel=0.8949), where="tiles")
    assert str(caught.value) == (
        "tiles: --quantize int8: expected pixel AUROC at most 0.005 below float32's 0.9000, "
        "got 0.8949; leave --quantize out, or take it with --force"
    )
    with pytest.raises(AccuracyError, match=r"expected image AUROC .* 0\.9500, got 0\.9000"):
        require_small_loss(float32, Auroc(image=0.9, pixel=0.9), where="tiles")


def test_the_difference_is_int8_minus_float32():
    found = compare_auroc(Auroc(image=0.9, pixel=None), Auroc(image=0.8, pixel=None))
    assert found["difference"] == {"image": pytest.approx(-0.1)}
    assert found["float32"] == {"image": 0.9, "pixel": None}


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
    """A category `stripes` with a test set: good pictures, and some with a square and its mask."""
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
    assert not np.array_equal(ours.layer2, theirs.layer2)
    assert int8_fit.calibration.image_threshold != float32_fit.calibration.image_threshold
    detector = Detector.load(int8_fit.artifact, threads=1)
    image, y, x = (int(number) for number in ours.origins[0])
    picture = photos / detector.manifest.training.images[image]
    result = detector.predict(picture)
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
    monkeypatch.setattr("patchcore_build.quantization.quantize_features", spoiled)
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
