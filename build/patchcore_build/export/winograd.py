"""3x3 convolutions of a float32 graph by Winograd's F(m, 3): about half the multiplications.

Conv (, Relu) -> row transform, one convolution of m + 2 groups, row transform.
A tile of m neighbours in a row of the result comes of m + 2 products instead of 3m
(Winograd 1980; Lavin & Gray 2016, arXiv:1509.09308, in one dimension). With a = m + 2:

    X (H, W, C) -> D·X (H, tiles, a, C) -> a convolutions of 3x1 -> (H, tiles, a, O) -> S· (H, W, O)

D and S are constant matrices, which also hold the padding and the end of a last tile. Columns are
summed as before. Tiles in both directions need fewer products still, but measured slower: their
weights are four times as large, and tiles have to be sorted in memory.
The file holds what the groups convolve with, 4/3 to 7/3 of the 3x3 weights: computed when a graph
is loaded, they would be in memory twice for that moment. benchmarks/winograd.py measures time and
error.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from patchcore_build.export.graph_edits import drop_unused, read_counts, replace_all

_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5)  # where polynomials are evaluated, and at infinity
_ONE = 1  # the place of 1: what is added there is added to every output

# Below 128 channels, or where the row transforms cost more than a quarter of the products, it
# measured no faster than the convolution it would replace.
_LEAST_CHANNELS = 128
_LARGEST_COST = 0.7
_NARROW = 16  # rows up to here are cut in tiles of 3 at most: as fast as 5, weights 5/3 not 7/3


def use_winograd(model: Any) -> int:
    """Replace the 3x3 convolutions of a network where it pays, in place.

    Taken are those of stride 1 and padding 1 with a bias, as `fold_norms` leaves them. The result
    of the graph changes by some 1e-6 of its largest value.

    Args:
        model: An onnx ModelProto whose batch has a name and whose planes have numbers for sizes.

    Returns:
        How many were replaced.
    """
    rewriter = _Rewriter(model)
    kept: list[Any] = []
    for node in model.graph.node:
        kept += rewriter.take(node)
    replace_all(model.graph.node, kept)
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in rewriter.constants.items()
    )
    drop_unused(model.graph)
    return rewriter.replaced


def tile_width(width: int) -> int:
    """How many neighbours of a row are computed together: the fewest products, then weights."""
    most = 3 if width <= _NARROW else 5
    return min(range(2, most + 1), key=lambda tile: ((tile + 2) * -(-width // tile), tile))


def relative_cost(width: int, inputs: int, outputs: int) -> float:
    """Multiplications with Winograd as a share of those without, the row transforms counted."""
    tile = tile_width(width)
    terms = (tile + 2) * -(-width // tile)
    row = terms * (width * (inputs + outputs) + 3 * inputs * outputs)
    return row / (9 * width * inputs * outputs)


def row_transforms(width: int, tile: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """D (tiles·a, W) and S (W, tiles·a) of a row that is padded by one; a is inside tiles."""
    points = _POINTS[: tile + 1]
    terms = tile + 2
    interpolate = np.zeros((terms, terms))
    for term, point in enumerate(points):
        interpolate[term, :-1] = np.poly([other for other in points if other != point])[::-1]
    interpolate[-1] = np.poly(points)[::-1]
    powers = np.zeros((tile, terms))
    powers[:, :-1] = np.power.outer(np.array(points), np.arange(tile)).T
    powers[-1, -1] = 1
    tiles = -(-width // tile)
    forward = np.zeros((tiles, terms, tiles * tile + 2))  # of columns from -1 on
    back = np.zeros((tiles * tile, tiles, terms))
    for number in range(tiles):
        start = number * tile
        forward[number, :, start : start + terms] = interpolate
        back[start : start + tile, number] = powers
    inside = forward.reshape(tiles * terms, -1)[:, 1 : width + 1]
    return (
        np.ascontiguousarray(inside, dtype=np.float32),
        back[:width].reshape(width, -1).astype(np.float32),
    )


def kernel_transform(tile: int) -> NDArray[np.float64]:
    """G (a, 3): a row of three weights -> what its products are made with."""
    points = _POINTS[: tile + 1]
    scales = [np.prod([point - other for other in points if other != point]) for point in points]
    finite = np.power.outer(np.array(points), np.arange(3)) / np.array(scales)[:, None]
    return np.vstack([finite, [0, 0, 1]])


class _Rewriter:
    """Gives for each node of a graph, in order, the nodes that stand in its place."""

    def __init__(self, model: Any) -> None:
        self.constants: dict[str, NDArray[Any]] = {}
        self.replaced = 0
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self._sizes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in [*inferred.value_info, *inferred.output]
        }
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._taken: set[str] = set()
        self._reads = read_counts(model.graph)
        self._readers = {name: node for node in model.graph.node for name in node.input}

    def take(self, node: Any) -> list[Any]:
        """The node itself, or a convolution's replacement, or none where it is part of one."""
        if node.output[0] in self._taken:
            return []
        if not self._pays(node):
            return [node]
        relu = self._relu_behind(node)
        if relu is not None:
            self._taken.add(relu.output[0])
        self.replaced += 1
        return self._replacement(node, relu)

    def _relu_behind(self, node: Any) -> Any:
        """The one node that reads the result of another, where it is a Relu."""
        result = node.output[0]
        reader = self._readers.get(result)
        alone = self._reads[result] == 1 and reader is not None and reader.op_type == "Relu"
        return reader if alone else None

    def _pays(self, node: Any) -> bool:
        if node.op_type != "Conv" or len(node.input) != 3:
            return False
        if not self._weights.keys() >= set(node.input[1:]):
            return False
        settings = {
            attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute
        }
        outputs, inputs, *kernel = self._weights[node.input[1]].dims
        plain = (
            kernel == [3, 3]
            and list(settings.get("pads", [])) == [1, 1, 1, 1]
            and list(settings.get("strides", [1, 1])) == [1, 1]
            and list(settings.get("dilations", [1, 1])) == [1, 1]
            and settings.get("group", 1) == 1
        )
        *_, height, width = self._sizes.get(node.output[0], [0])
        return (
            plain
            and min(inputs, outputs) >= _LEAST_CHANNELS
            and height > 0
            and relative_cost(width, inputs, outputs) <= _LARGEST_COST
        )

    def _replacement(self, convolution: Any, relu: Any) -> list[Any]:
        weight, shift = (
            numpy_helper.to_array(self._weights[name]) for name in convolution.input[1:]
        )
        outputs, inputs = weight.shape[:2]
        height, width = self._sizes[convolution.output[0]][2:]
        tile = tile_width(width)
        terms = tile + 2
        forward, back = row_transforms(width, tile)
        kernels = np.einsum("ak,oihk->aoih", kernel_transform(tile), weight, dtype=np.float64)
        shifts = np.zeros((terms, outputs), np.float32)
        shifts[_ONE] = shift
        own, places = convolution.name, len(forward)
        chain = _Chain(own, convolution.input[0])
        chain.add("Transpose", perm=[0, 2, 3, 1])
        chain.add_before("MatMul", self._constant(f"winograd.forward{width}", forward))
        chain.add("Reshape", self._shape(0, height, places // terms, terms * inputs))
        chain.add("Transpose", perm=[0, 3, 1, 2])
        chain.add(
            "Conv",
            self._constant(
                f"{own}.weight",
                kernels.reshape(terms * outputs, inputs, 3, 1).astype(np.float32),
            ),
            self._constant(f"{own}.shift", shifts.ravel()),
            group=terms,
            kernel_shape=[3, 1],
            pads=[1, 0, 1, 0],
        )
        chain.add("Transpose", perm=[0, 2, 3, 1])
        chain.add("Reshape", self._shape(0, height, places, outputs))
        chain.add_before("MatMul", self._constant(f"winograd.back{width}", back))
        if relu is not None:
            chain.add("Relu")  # before the last Transpose, which the next layer's own undoes
        chain.add("Transpose", perm=[0, 3, 1, 2])
        chain.nodes[-1].output[0] = (relu or convolution).output[0]
        return chain.nodes

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self.constants.setdefault(name, array)
        return name

    def _shape(self, *sizes: int) -> str:
        return self._constant(f"shape.{'x'.join(map(str, sizes))}", np.array(sizes, np.int64))


class _Chain:
    """Nodes that each read the result of the one before, `value`."""

    def __init__(self, name: str, value: str) -> None:
        self.nodes: list[Any] = []
        self.value = value
        self._name = name

    def add(self, kind: str, *others: str, **attributes: Any) -> str:
        """`value` comes first; returns the result's name."""
        return self._append(kind, [self.value, *others], attributes)

    def add_before(self, kind: str, other: str) -> str:
        """`value` comes second."""
        return self._append(kind, [other, self.value], {})

    def _append(self, kind: str, inputs: list[str], attributes: dict[str, Any]) -> str:
        name = f"{self._name}.{kind}{len(self.nodes)}"
        self.value = f"{name}.out0"
        self.nodes.append(helper.make_node(kind, inputs, [self.value], name=name, **attributes))
        return self.value
