"""Laws of `fold_norms`: the same numbers from fewer nodes, and nothing others need is lost."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from patchcore_build.norm_folding import fold_norms

NORM = ("gamma", "beta", "mean", "variance")


def network(*, epsilon=None, bias=False, also="", weights_from="conv.weight"):
    """Conv, BatchNormalization, Relu; `also` is one more result; weights may be computed."""
    rng = np.random.default_rng(0)
    arrays = {
        "conv.weight": rng.standard_normal((4, 3, 3, 3)),
        "gamma": rng.uniform(-2, 2, 4),
        "beta": rng.standard_normal(4),
        "mean": rng.standard_normal(4),
        "variance": rng.uniform(1e-4, 2, 4),
    }
    if bias:
        arrays["conv.bias"] = rng.standard_normal(4)
    extra = {} if epsilon is None else {"epsilon": epsilon}
    inner = ["planes", weights_from, *(["conv.bias"] if bias else [])]
    nodes = [
        helper.make_node("Conv", inner, ["sum"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["sum", *NORM], ["normalised"], **extra),
        helper.make_node("Relu", ["normalised"], ["result"]),
    ]
    if weights_from != "conv.weight":
        nodes.insert(0, helper.make_node("Abs", ["conv.weight"], [weights_from]))
    if also == "twin":  # another convolution with the same weights
        nodes.append(helper.make_node("Conv", ["planes", "conv.weight"], ["twin"]))
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list("BCHW"))
        for name in ("result", also)
        if name
    ]
    planes = helper.make_tensor_value_info("planes", TensorProto.FLOAT, ["B", 3, 8, 6])
    tensors = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in arrays.items()]
    graph = helper.make_graph(nodes, "one", [planes], results, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


def folded(model):
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    fold_norms(copy.graph)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def run(model):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    planes = np.random.default_rng(1).standard_normal((2, 3, 8, 6), np.float32)
    return session.run(None, {"planes": planes})


@pytest.mark.parametrize("epsilon", [None, 1e-3, 0.5])
def test_the_numbers_stay_and_the_norm_goes(epsilon):
    plain = network(epsilon=epsilon)
    lean = folded(plain)
    assert [node.op_type for node in lean.graph.node] == ["Conv", "Relu"]
    assert {tensor.name for tensor in lean.graph.initializer} == {"conv.weight", "conv.bias"}
    (expected,), (got,) = run(plain), run(lean)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "settings", [{"bias": True}, {"also": "sum"}, {"also": "twin"}, {"weights_from": "computed"}]
)
def test_what_would_change_another_result_stays(settings):
    plain = network(**settings)
    assert folded(plain).graph == plain.graph
