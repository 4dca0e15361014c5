"""Laws of `fold_paddings`: a pool that pads gives what Pad and a pool gave, to the bit."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from patchcore_build.export.pool_padding import fold_paddings
from small_graph import Level, rewritten, run_model, small_model

AROUND = (0, 0, 1, 2, 0, 0, 2, 0)


def network(pool, sides=AROUND, *, before="Relu", value=None, mode=None, as_node=False):
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


def folded(model):
    return rewritten(model, lambda copy: fold_paddings(copy.graph))[0]


def run(model):
    images = np.random.default_rng(0).standard_normal((2, 4, 8, 8), np.float32)
    return run_model(model, images, level=Level.ORT_DISABLE_ALL)[0]


@pytest.mark.parametrize("as_node", [True, False])
@pytest.mark.parametrize("value", [None, 0])
@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool"])
def test_zeros_around_become_the_pools_own(pool, value, as_node):
    before = network(pool, value=value, as_node=as_node)
    after = folded(before)
    assert [node.op_type for node in after.graph.node] == ["Relu", pool]
    assert not after.graph.initializer
    np.testing.assert_array_equal(run(after), run(before))


def test_an_average_of_anything_counts_the_zeros_too():
    before = network("AveragePool", before="Neg")
    after = folded(before)
    assert "Pad" not in [node.op_type for node in after.graph.node]
    np.testing.assert_array_equal(run(after), run(before))


@pytest.mark.parametrize(
    "model",
    [
        network("MaxPool", before="Neg"),
        network("AveragePool", value=1),
        network("AveragePool", mode="edge"),
        network("AveragePool", sides=(0, 1, 1, 1, 0, 0, 1, 1)),
        network("AveragePool", sides=(0, 0, -1, 1, 0, 0, 1, 1)),
        network("AveragePool", sides=(0, 0, 1, 1, 0, 0, 3, 1)),
    ],
    ids=["largest-of-negatives", "ones", "edge", "channels", "cropped", "as-wide-as-the-pool"],
)
def test_other_paddings_stay(model):
    after = folded(model)
    assert after.graph == model.graph
    np.testing.assert_array_equal(run(after), run(model))
