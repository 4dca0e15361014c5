"""Laws of int8: quantizing a network."""

import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from loaded_graph import loaded_graph
from patchcore_build.errors import ExportError
from patchcore_build.export.quantization import CALIBRATION_IMAGES, quantize_features, sample_images
from patchcore_runtime.engine.session import open_network

LAYERS = ["layer2", "layer3"]


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, ["B", *shape])


def write_small_network(path):
    """As `export_onnx` writes: stem, pool, residual block, averaged outputs."""
    rng = np.random.default_rng(3)
    nodes, weights = [], []

    def convolve(source, target, shape, stride):
        kernel = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        arrays = [kernel, rng.standard_normal(shape[0]) / 4]
        names = [f"{target}.weight", f"{target}.bias"]
        for name, array in zip(names, arrays, strict=True):
            weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        side = shape[2] // 2
        nodes.append(helper.make_node(
            "Conv", [source, *names], [target], name=target, strides=[stride] * 2,
            pads=[side] * 4,
        ))  # fmt: skip

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


def draw_images(count, *, seed=0, brightness=1.0):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (count, 64, 64, 3)) * brightness).astype(np.uint8)


def layers_of(path, images):
    return open_network(path, threads=1).run(LAYERS, {"images": images})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small float32 network."""
    return write_small_network(tmp_path_factory.mktemp("network") / "features.onnx")


@pytest.fixture(scope="module")
def small_int8(small):
    """Its int8 twin."""
    target = small.with_name("int8.onnx")
    quantize_features(small, target, draw_images(20), seed=0)
    return target


def test_the_signature_survives(small, small_int8):
    before, after = onnx.load(small).graph, onnx.load(small_int8).graph
    assert list(before.input) == list(after.input)
    assert list(before.output) == list(after.output)
    assert after.output[0].type.tensor_type.shape.dim[0].dim_param == "B"
    assert {tensor.data_location for tensor in after.initializer} == {TensorProto.DEFAULT}


def test_the_same_network_images_and_seed_give_the_same_bytes_in_another_process(
    small, small_int8, tmp_path
):
    np.save(tmp_path / "images.npy", draw_images(20))
    code = (
        "import sys, numpy as np; from pathlib import Path; "
        "from patchcore_build.export.quantization import quantize_features; "
        "quantize_features(Path(sys.argv[1]), Path('out.onnx'), np.load('images.npy'), seed=0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, small], cwd=tmp_path, capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")  # the quantizer's own talk is kept away
    assert (tmp_path / "out.onnx").read_bytes() == small_int8.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npy", "out.onnx"]


def test_int8_stays_near_float32(small, small_int8):
    images = draw_images(5, seed=1)
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


def test_ranges_come_from_the_images(small, small_int8, tmp_path):
    dark = tmp_path / "dark.onnx"
    quantize_features(small, dark, draw_images(20, brightness=0.2), seed=0)

    def scales(path):
        constants = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
        return {n: float(v) for n, v in constants.items() if n.endswith("_scale") and v.ndim == 0}

    bright, dim = scales(small_int8), scales(dark)
    assert bright.keys() == dim.keys()
    assert len(bright) > 3
    assert all(dim[name] < bright[name] for name in bright)


def test_only_the_first_convolution_stays_float_once_the_file_is_loaded(small_int8, tmp_path):
    kinds = Counter(node.op_type for node in loaded_graph(small_int8, tmp_path).node)
    integer = (kinds["QLinearConv"], kinds["QLinearAdd"])
    assert integer == (3, 1)
    assert (kinds["Conv"], kinds["Add"], kinds["Pad"]) == (1, 0, 0)


def test_the_first_pool_works_on_floats_once_the_file_is_loaded(small_int8, tmp_path):
    nodes = loaded_graph(small_int8, tmp_path).node
    made_by = {name: node for node in nodes for name in node.output}
    (pool,) = [node for node in nodes if node.op_type == "MaxPool"]
    assert made_by[pool.input[0]].op_type in ("Conv", "ReorderOutput")
    (rounding,) = [node for node in nodes if node.op_type == "QuantizeLinear"]
    assert made_by[rounding.input[0]].op_type == "Max"


def test_a_batch_gives_what_its_images_give_alone(small_int8):
    images = draw_images(3, seed=2)
    whole = layers_of(small_int8, images)
    for number in range(3):
        for alone, batch in zip(layers_of(small_int8, images[number, None]), whole, strict=True):
            np.testing.assert_allclose(alone[0], batch[number], rtol=0, atol=1e-5)


def test_the_sample_is_drawn_from_all_images_by_the_seed():
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
        quantize_features(path, tmp_path / "out.onnx", draw_images(2), seed=0)
    assert not (tmp_path / "out.onnx").exists()
