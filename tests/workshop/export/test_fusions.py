"""Laws of the fusions: the same numbers from fewer nodes, and nothing that others need is lost."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from patchcore_build.export.fusions import fold_norms, fold_paddings
from small_graph import Level, as_float32, rewritten, run_model, small_model

NORM = ("gamma", "beta", "mean", "variance")
AROUND = (0, 0, 1, 2, 0, 0, 2, 0)


def norm_network(*, epsilon=None, bias=False, also="", weights_from="conv.weight"):
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


def without_norms(model):
    return rewritten(model, lambda copy: fold_norms(copy.graph))[0]


def run_planes(model):
    return run_model(model, np.random.default_rng(1).standard_normal((2, 3, 8, 6), np.float32))


@pytest.mark.parametrize("epsilon", [None, 1e-3, 0.5])
def test_the_numbers_stay_and_the_norm_goes(epsilon):
    plain = norm_network(epsilon=epsilon)
    lean = without_norms(plain)
    assert [node.op_type for node in lean.graph.node] == ["Conv", "Relu"]
    assert {tensor.name for tensor in lean.graph.initializer} == {"conv.weight", "conv.bias"}
    (expected,), (got,) = run_planes(plain), run_planes(lean)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "settings", [{"bias": True}, {"also": "sum"}, {"also": "twin"}, {"weights_from": "computed"}]
)
def test_what_would_change_another_result_stays(settings):
    plain = norm_network(**settings)
    assert without_norms(plain).graph == plain.graph


def pool_network(pool, sides=AROUND, *, before="Relu", value=None, mode=None, as_node=False):
    """A layer, Pad, and a pool of 3x3 without padding."""
    constants = {"sides": np.array(sides, np.int64)}
    padded = ["layer", "sides"]
    if value is not None:
        constants["value"] = np.array(value, np.float32)
        padded.append("value")
    nodes = []
    if as_node:
        tensor = numpy_helper.from_array(constants.pop("sides"))
        nodes.append(helper.make_node("Constant", [], ["sides"], value=tensor))
    modes = {} if mode is None else {"mode": mode}
    nodes += [
        helper.make_node(before, ["planes"], ["layer"]),
        helper.make_node("Pad", padded, ["padded"], **modes),
        helper.make_node(pool, ["padded"], ["result"], kernel_shape=[3, 3], strides=[1, 1]),
    ]
    return small_model(nodes, (4, 8, 8), ["result"], constants)


def without_paddings(model):
    return rewritten(model, lambda copy: fold_paddings(copy.graph))[0]


def run_layer(model):
    images = np.random.default_rng(0).standard_normal((2, 4, 8, 8), np.float32)
    return run_model(model, images, level=Level.ORT_DISABLE_ALL)[0]


@pytest.mark.parametrize("as_node", [True, False])
@pytest.mark.parametrize("value", [None, 0])
@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool"])
def test_zeros_around_become_the_pools_own(pool, value, as_node):
    before = pool_network(pool, value=value, as_node=as_node)
    after = without_paddings(before)
    assert [node.op_type for node in after.graph.node] == ["Relu", pool]
    assert not after.graph.initializer
    np.testing.assert_array_equal(run_layer(after), run_layer(before))


def test_an_average_of_anything_counts_the_zeros_too():
    before = pool_network("AveragePool", before="Neg")
    after = without_paddings(before)
    assert "Pad" not in [node.op_type for node in after.graph.node]
    np.testing.assert_array_equal(run_layer(after), run_layer(before))


@pytest.mark.parametrize(
    "model",
    [
        pool_network("MaxPool", before="Neg"),
        pool_network("AveragePool", value=1),
        pool_network("AveragePool", mode="edge"),
        pool_network("AveragePool", sides=(0, 1, 1, 1, 0, 0, 1, 1)),
        pool_network("AveragePool", sides=(0, 0, -1, 1, 0, 0, 1, 1)),
        pool_network("AveragePool", sides=(0, 0, 1, 1, 0, 0, 3, 1)),
    ],
    ids=["largest-of-negatives", "ones", "edge", "channels", "cropped", "as-wide-as-the-pool"],
)
def test_other_paddings_stay(model):
    after = without_paddings(model)
    assert after.graph == model.graph
    np.testing.assert_array_equal(run_layer(after), run_layer(model))
