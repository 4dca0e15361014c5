"""Laws of `fold_norms`: the same numbers from fewer nodes, and nothing others need is lost."""

import numpy as np
import pytest
from onnx import helper

from patchcore_build.export.norm_folding import fold_norms
from small_graph import as_float32, rewritten, run_model, small_model

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
    results = [name for name in ("result", also) if name]
    return small_model(nodes, (3, 8, 6), results, as_float32(arrays))


def folded(model):
    return rewritten(model, lambda copy: fold_norms(copy.graph))[0]


def run(model):
    return run_model(model, np.random.default_rng(1).standard_normal((2, 3, 8, 6), np.float32))


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
