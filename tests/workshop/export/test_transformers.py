"""Laws of an exported transformer: the same tokens, in operators that engines know and fuse."""

from collections import Counter
from functools import partial

import mindspore as ms
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from patchcore_build.backbone.device import open_device
from patchcore_build.backbone.extractor import FeatureExtractor
from patchcore_build.backbone.vit.cell import VisionTransformer
from patchcore_build.backbone.vit.prepare import prepare_parameters
from patchcore_build.export.graphs import (
    compare_mindir,
    compare_onnx,
    export_mindir,
    export_onnx,
)
from patchcore_build.export.transformers import fold_biases, fold_layer_norms
from patchcore_build.vision_transformers import VitShape, official_shapes
from patchcore_runtime.engine.session import open_network

SHAPE = VitShape(width=128, blocks=3, registers=4, offset=0.0, antialias=True)
ROTARY = VitShape(width=128, blocks=3, registers=4, patch_px=16, epsilon=1e-5, rotary=True)
H, W = 42, 70
BLOCKS = (1, 3)
NAMES = ["block1", "block3"]


def make_cell(shape=SHAPE):
    rng = np.random.default_rng(0)
    sides = official_shapes(shape)
    if not shape.rotary:
        sides["pos_embed"] = (1, 26, shape.width)
    official = {n: rng.standard_normal(s).astype(np.float32) * 0.1 for n, s in sides.items()}
    height, width = 3 * shape.patch_px, 5 * shape.patch_px
    body = VisionTransformer(shape, height=height, width=width, blocks=BLOCKS)
    prepared = prepare_parameters(official, shape, blocks=3, grid=body.grid)
    for name, parameter in body.parameters_and_names():
        parameter.set_data(ms.Tensor(prepared[name]))
    after = [ms.nn.Identity() for _ in BLOCKS]
    cell = FeatureExtractor(body, after, half=False).set_train(False)
    cell.set_inputs(ms.Tensor(shape=[None, height, width, 3], dtype=ms.uint8))
    return cell


def draw_images(batch):
    return np.random.default_rng(batch).integers(0, 256, (batch, H, W, 3), np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    open_device()
    path = tmp_path_factory.mktemp("transformer") / "features.onnx"
    export_onnx(make_cell, path, height=H, width=W, layers=NAMES)
    return path


def truth(images):
    return [layer.asnumpy() for layer in make_cell()(ms.Tensor(images))]


@pytest.mark.parametrize("batch", [1, 3])
def test_the_runtime_accepts_the_graph_and_computes_the_same_tokens(exported, batch):
    images = draw_images(batch)
    layers = open_network(exported, threads=1).run(NAMES, {"images": images})
    for got, expected in zip(layers, truth(images), strict=True):
        assert got.shape == expected.shape == (batch, 128, 3, 5)
        assert np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max()


def test_outputs_are_in_the_order_of_the_layers(exported):
    images = draw_images(2)
    gap = compare_onnx(exported, images, truth(images), tolerance=1e-5)
    assert gap <= 1e-5


def test_norms_biases_and_the_error_function_are_single_operators(exported):
    model = onnx.load(exported)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert model.opset_import[0].version == 17
    assert kinds["LayerNormalization"] == 2 * 3 + 2
    assert kinds["Gemm"] == 6 * 3
    assert kinds["Erf"] == kinds["Softmax"] == 3
    assert not {"Tanh", "ReduceSumSquare", "ReduceMean", "Sqrt"} & set(kinds)
    assert all(len(node.input) == 3 for node in model.graph.node if node.op_type == "Gemm")


def test_onnxruntime_fuses_the_activation(exported, tmp_path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["Gelu"] == 3
    assert kinds["Erf"] == 0


def test_the_same_network_has_the_same_bytes(exported, tmp_path):
    export_onnx(make_cell, tmp_path / "again.onnx", height=H, width=W, layers=NAMES)
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


def test_mindir_is_equal_to_the_bit(exported, tmp_path):
    path, images = tmp_path / "features.mindir", draw_images(2)
    export_mindir(make_cell, path, height=H, width=W)
    assert compare_mindir(path, images, truth(images), tolerance=0.0) == 0
    assert exported.stat().st_size > 0


def test_rotary_positions_export_as_well(tmp_path):
    open_device()
    make, path = partial(make_cell, ROTARY), tmp_path / "features.onnx"
    export_onnx(make, path, height=48, width=80, layers=NAMES)
    export_mindir(make, path.with_suffix(".mindir"), height=48, width=80)
    images = np.random.default_rng(3).integers(0, 256, (3, 48, 80, 3), np.uint8)
    expected = [layer.asnumpy() for layer in make()(ms.Tensor(images))]
    compare_mindir(path.with_suffix(".mindir"), images, expected, tolerance=0.0)
    for got, layer in zip(open_network(path).run(NAMES, {"images": images}), expected, strict=True):
        assert np.abs(got - layer).max() <= 2e-6 * np.abs(layer).max()


def _graph(nodes, tensors):
    given = [numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in tensors]
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    return helper.make_graph(nodes, "g", [], [out], given)


def _norm(count=4.0, other="centred"):
    node = helper.make_node
    return _graph(
        [
            node("ReduceMean", ["x"], ["mean"], axes=[1]),
            node("Sub", ["x", "mean"], ["centred"]),
            node("ReduceSumSquare", [other], ["squares"], axes=[1]),
            node("Div", ["squares", "count"], ["variance"]),
            node("Add", ["variance", "epsilon"], ["safe"]),
            node("Sqrt", ["safe"], ["deviation"]),
            node("Div", ["centred", "deviation"], ["normal"]),
            node("Mul", ["normal", "gamma"], ["scaled"]),
            node("Add", ["scaled", "beta"], ["y"]),
        ],
        [("x", np.ones((2, 4))), ("count", count), ("epsilon", 1e-6),
         ("gamma", np.ones(4)), ("beta", np.ones(4))],
    )  # fmt: skip


def test_only_a_normalisation_is_taken_for_one():
    graph = _norm()
    assert fold_layer_norms(graph)
    assert [node.op_type for node in graph.node] == ["LayerNormalization"]
    for other in (_norm(count=5.0), _norm(other="x")):
        assert not fold_layer_norms(other)
        assert len(other.node) == 9


def test_a_product_that_is_read_twice_keeps_its_addition():
    node = helper.make_node
    tensors = [("a", np.ones((2, 3))), ("w", np.ones((3, 4))), ("b", np.ones(4))]
    once = [node("Gemm", ["a", "w"], ["p"]), node("Add", ["p", "b"], ["y"])]
    graph = _graph(once, tensors)
    fold_biases(graph)
    assert [list(n.input) for n in graph.node] == [["a", "w", "b"]]
    graph = _graph(
        [*once[:1], node("Add", ["p", "b"], ["s"]), node("Mul", ["s", "p"], ["y"])], tensors
    )
    fold_biases(graph)
    assert [n.op_type for n in graph.node] == ["Gemm", "Add", "Mul"]
