"""Laws of the operators: a shape is the one that onnxruntime finds, for one image and for two."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from operator_cases import CASES, CHAINS, H, W, content_of, network_of, networks, with_results
from patchcore_runtime.engine.network import _Network, _operators, check_network
from patchcore_runtime.engine.onnx_model import read_model
from patchcore_runtime.errors import ArtifactError

NAMES = [call for call, _ in CASES] + [chain[-1][1] for chain in CHAINS]
NO_LAYERS = {"Constant", "DequantizeLinear"}  # of the old networks; test_network and int8 use them


def checked(tmp_path, model):
    path = tmp_path / "graph.onnx"
    path.write_bytes(content_of(model))
    parsed = read_model(path)
    network = _Network(path, parsed["graph"])
    network.check(parsed["opset_import"])
    return network


def refusal(tmp_path, model):
    path = tmp_path / "graph.onnx"
    path.write_bytes(content_of(model))
    with pytest.raises(ArtifactError) as raised:
        check_network(path, read_model(path))
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("model", networks(), ids=NAMES)
def test_shapes_and_integers_are_those_of_onnxruntime(tmp_path, model):
    network = checked(tmp_path, model)
    shown = with_results(model)
    session = onnxruntime.InferenceSession(content_of(shown), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (2, H, W, 3), np.uint8)
    results = session.run(None, {"images": images})
    for name, result in zip(shown.graph.node[-1].output, results, strict=True):
        value = network.values[name]
        assert value.shape == result.shape
        assert (value.numbers is None) == (result.dtype != np.int64)
        if value.numbers is not None:
            assert value.numbers == tuple(result.ravel().tolist())


def test_every_operator_of_the_table_is_tried():
    tried = {node.op_type for model in networks() for node in model.graph.node}
    assert set(_operators()) - tried == NO_LAYERS


REFUSED = {
    "Reshape x [3,-1,7]": "sides that divide 1152",
    "Reshape x [-1,-1,3]": "one side of -1",
    "Reshape x [0,0,0,0,0]": "a side of the input for 0",
    "Reshape x x": "inputs of int64 constants, got floating point",
    "Reshape x [-2,3]": "sides above 0, or -1",
    "Slice x [5] [5] [1]": "a slice that is not empty",
    "Slice x [0] [1] [1] [0]": "steps of 1 to 65536",
    "Slice x [0,0] [1,1] [1,-3]": "axes that differ",
    "Slice x [0] [1,2]": "as many starts",
    "Gather x [1]": "places of 1",
    "Gather t [-2]": "places of 1",
    "Expand 3x1 [5,7,2]": "shapes that can be combined",
    "Expand single [1099511627776]": "up to 8 sides above 0",
    "Squeeze x [1]": "axes of one number",
    "Squeeze x": "axes once",
    "Unsqueeze x [0,1,2,3,4]": "up to 8 dimensions",
    "Split:3 x [1,2]": "3 parts of",
    "Split:5 x": "5 equal parts",
    "Pad x [0,0,-1,0,0,0,0,0]": "two pads of 0",
    "MatMul t t": "matrices that fit",
    "Gemm x 3x4": "two matrices",
    "Gemm 5x3 4x3": "matrices that fit",
    "Gemm 5x3 3x4 5": "shapes that can be combined",
    "LayerNormalization t 4": "scales of its axes",
    "Clip x 3": "single limits",
    "Where x x x": "inputs of truths, got floating point",
    "Add [1] x": "inputs of floating point, got int64 constants",
    "Concat 1 [1]": "inputs of one type",
    "ReduceMean x": "axes once",
    "Loop x": "an operator of the workshop",
    "If x": "an operator of the workshop",
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_does_not_fit_is_refused(tmp_path, call):
    attributes = {"axis": 0} if call.startswith("Concat") else {}
    told = refusal(tmp_path, network_of([("r", call, attributes)]))
    assert REFUSED[call] in told


def test_a_batch_of_one_in_a_shape_is_refused(tmp_path):
    told = refusal(tmp_path, network_of([("r", "Reshape x [1,3,384]", {})]))
    assert "expected a shape of 2304 numbers, got 1152" in told


def test_large_int64_tensors_and_computed_truths_are_refused(tmp_path):
    model = network_of([("r", "Reshape x [0,3,-1]", {})])
    many = numpy_helper.from_array(np.zeros(4097, np.int64), "many")
    model.graph.initializer.append(many)
    assert "at most 4096 integers, got 4097" in refusal(tmp_path, model)
    model = network_of([("n", "IsNaN x", {}), ("r", "Relu n", {})])
    assert "inputs of floating point, got truths" in refusal(tmp_path, model)


def test_a_doubling_list_of_integers_ends(tmp_path):
    chain = [("i0", "Shape x", {})]
    chain += [(f"i{n + 1}", f"Concat i{n} i{n}", {"axis": 0}) for n in range(40)]
    assert "at most 4096 integers" in refusal(tmp_path, network_of(chain))


def test_a_layer_must_hold_floating_point(tmp_path):
    model = network_of([("r", "Relu x", {})])
    model.graph.node[3].output[0] = "averaged"
    model.graph.node.append(helper.make_node("IsNaN", ["averaged"], ["layer1"]))
    assert "layer1: expected floating point, got truths" in refusal(tmp_path, model)
