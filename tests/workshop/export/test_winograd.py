"""Laws of `use_winograd`: the same convolutions, with fewer products, where that is faster."""

import numpy as np
import pytest
from onnx import helper

from patchcore_build.export.winograd import (
    kernel_transform,
    relative_cost,
    row_transforms,
    tile_width,
    use_winograd,
)
from small_graph import as_float32, rewritten, run_model, small_model

CHANNELS = 128
PLAIN = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}


def network(
    size=(9, 14),
    channels=(CHANNELS, CHANNELS),
    *,
    relu=True,
    settings=PLAIN,
    branch=False,
    bias=True,
):
    """Conv (, Relu) of a batch of planes; `branch` gives the sum away too."""
    rng = np.random.default_rng(0)
    inputs, outputs = channels
    scale = 1 / np.sqrt(inputs * 9)
    group = settings.get("group", 1)
    weights = {"weight": rng.standard_normal((outputs, inputs // group, 3, 3)) * scale}
    if bias:
        weights["bias"] = rng.standard_normal(outputs)
    summed = "sum" if relu else "result"
    nodes = [helper.make_node("Conv", ["planes", *weights], [summed], name="conv", **settings)]
    if relu:
        nodes.append(helper.make_node("Relu", [summed], ["result"]))
    results = ["result", "sum"] if branch else ["result"]
    return small_model(nodes, (inputs, *size), results, as_float32(weights))


def fast_form(model):
    return rewritten(model, use_winograd)


def run(model, planes, result="result"):
    return run_model(model, planes, [result])[0]


def planes(batch, size, channels=CHANNELS):
    rng = np.random.default_rng(batch)
    return rng.standard_normal((batch, channels, *size), np.float32)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(9, 14), (3, 16), (8, 17), (1, 28), (5, 31)])
def test_results_are_those_of_the_convolution(size, batch, relu):
    plain = network(size, relu=relu)
    fast, replaced = fast_form(plain)
    assert replaced == 1
    images = planes(batch, size)
    expected = run(plain, images)
    assert (expected.min() < 0) != relu
    gap = np.abs(run(fast, images) - expected).max()
    assert gap < 1e-5 * np.abs(expected).max()


def test_channels_may_change_their_number():
    plain = network(channels=(128, 192))
    fast, replaced = fast_form(plain)
    assert replaced == 1
    images = planes(2, (9, 14))
    np.testing.assert_allclose(run(fast, images), run(plain, images), rtol=0, atol=1e-4)


def test_what_else_reads_the_sum_still_gets_it():
    plain = network(branch=True)
    fast, replaced = fast_form(plain)
    assert replaced == 1
    images = planes(1, (9, 14))
    for name in ("sum", "result"):
        np.testing.assert_allclose(
            run(fast, images, name), run(plain, images, name), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("width", [1, 2, 3, 5, 14, 16, 17, 28, 56])
def test_row_transforms_sum_three_neighbours_of_a_row(width):
    rng = np.random.default_rng(width)
    row, weights = rng.standard_normal(width), rng.standard_normal(3)
    tile = tile_width(width)
    forward, back = row_transforms(width, tile)
    products = (forward @ row).reshape(-1, tile + 2) * (kernel_transform(tile) @ weights)
    expected = np.convolve(row, weights[::-1], "full")[1:-1]
    np.testing.assert_allclose(back @ products.ravel(), expected, atol=1e-5)


def test_a_constant_added_to_the_second_product_is_added_to_every_output():
    forward, back = row_transforms(28, 5)
    products = np.zeros(len(forward)).reshape(-1, 7)
    products[:, 1] = 3
    np.testing.assert_array_equal(back @ products.ravel(), np.full(28, 3.0))


@pytest.mark.parametrize(
    ("width", "tile"),
    [(1, 2), (2, 2), (4, 2), (14, 3), (16, 3), (17, 5), (20, 5), (28, 4), (56, 4)],
)
def test_tiles_have_the_fewest_products_and_then_the_fewest_weights(width, tile):
    assert tile_width(width) == tile


def test_half_of_the_products_are_saved():
    for width, channels in [(14, 512), (28, 256)]:
        assert relative_cost(width, channels, channels) < 0.65
    assert relative_cost(56, 64, 64) > 0.7


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(network(channels=(64, 128)), id="few-in"),
        pytest.param(network(channels=(128, 64)), id="few-out"),
        pytest.param(network(settings=PLAIN | {"strides": [2, 2]}), id="stride"),
        pytest.param(network(settings=PLAIN | {"pads": [0, 0, 0, 0]}), id="no-padding"),
        pytest.param(
            network(settings=PLAIN | {"dilations": [2, 2], "pads": [2, 2, 2, 2]}), id="dilation"
        ),
        pytest.param(network(settings=PLAIN | {"group": 2}, channels=(256, 256)), id="group"),
        pytest.param(network(size=(8, 256)), id="long-rows"),
        pytest.param(network(bias=False), id="no-bias"),
    ],
)
def test_other_convolutions_stay_as_they_are(model):
    same, replaced = fast_form(model)
    assert replaced == 0
    assert same.graph == model.graph


def test_the_file_holds_what_the_groups_convolve_with():
    fast, _ = fast_form(network())
    (convolution,) = [node for node in fast.graph.node if node.op_type == "Conv"]
    weights = {tensor.name: list(tensor.dims) for tensor in fast.graph.initializer}
    assert weights.pop(convolution.input[1]) == [5 * CHANNELS, CHANNELS, 3, 1]
    assert all(np.prod(dims) < 10_000 for dims in weights.values())
    assert sum(node.op_type == "MatMul" for node in fast.graph.node) == 2


def test_same_network_same_bytes():
    files = {fast_form(network())[0].SerializeToString(deterministic=True) for _ in range(2)}
    assert len(files) == 1
