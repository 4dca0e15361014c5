"""Write a transformer as the operators that engines know: LayerNormalization, Gemm, Erf.

onnx GraphProto of MindSpore's exporter -> the same graph, changed in place, with fewer nodes.

MindSpore's exporter has no Erf and no LayerNormalization. The cell is exported with a stand-in for
the first (`stand_in`). The second comes as nine nodes, which become one; onnxruntime would not
recognise them, because they take the variance from a sum of squares.
"""

from typing import Any

from mindspore import ops
from onnx import helper, numpy_helper

from patchcore_build.export.graph_edits import drop_unused, made_by, read_counts

OPSET = 17  # the first with LayerNormalization
_STAND_IN = "Tanh"


def stand_in(cell: Any) -> None:
    """Put a function that MindSpore can export in the place of every `erf` of a cell.

    Args:
        cell: A network, changed in place; it then computes something else.
    """
    for _, part in cell.cells_and_names():
        if isinstance(getattr(part, "erf", None), ops.Erf):
            part.erf = ops.Tanh()


def restore_erf(graph: Any) -> None:
    """Undo `stand_in` in the exported graph, which has no other function of that name."""
    for node in graph.node:
        if node.op_type == _STAND_IN:
            node.op_type = "Erf"


def fold_layer_norms(graph: Any) -> bool:
    """Replace the exporter's nodes of a normalisation by LayerNormalization.

    Args:
        graph: An onnx GraphProto, changed in place.

    Returns:
        Whether there was one; the model then needs `OPSET`.
    """
    makers = made_by(graph)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = False
    for node in list(graph.node):
        parts = _norm_of(node, makers, constants)
        if parts is None:
            continue
        source, gamma, beta, epsilon = parts
        fused = helper.make_node(
            "LayerNormalization", [source, gamma, beta], list(node.output), axis=-1, epsilon=epsilon
        )
        place = list(graph.node).index(node)
        graph.node.remove(node)
        graph.node.insert(place, fused)
        found = True
    if found:
        drop_unused(graph)
    return found


def fold_biases(graph: Any) -> None:
    """Replace Gemm and the addition of a weight behind it by one Gemm.

    Args:
        graph: An onnx GraphProto, changed in place.
    """
    vectors = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 1}
    makers, reads = made_by(graph), read_counts(graph)
    for node in list(graph.node):
        product = makers.get(node.input[0]) if node.op_type == "Add" else None
        if product is None or product.op_type != "Gemm" or node.input[1] not in vectors:
            continue
        if len(product.input) == 2 and reads[product.output[0]] == 1:
            product.input.append(node.input[1])
            product.output[0] = node.output[0]
            graph.node.remove(node)


def _norm_of(
    node: Any, makers: dict[str, Any], constants: dict[str, Any]
) -> tuple[str, str, str, float] | None:
    """Source, scale, shift and epsilon of a normalisation that ends in this node."""
    scaled = _maker(node, "Add", 0, "Mul", makers)
    normal = _maker(scaled, "Mul", 0, "Div", makers)
    centred = _maker(normal, "Div", 0, "Sub", makers)
    deviation = _maker(normal, "Div", 1, "Sqrt", makers)
    variance = _maker(deviation, "Sqrt", 0, "Add", makers)
    mean = _maker(variance, "Add", 0, "Div", makers)
    squares = _maker(mean, "Div", 0, "ReduceSumSquare", makers)
    if squares is None or squares.input[0] != centred.output[0]:
        return None
    epsilon, count = constants.get(variance.input[1]), constants.get(mean.input[1])
    scale, shift = (_uncast(part.input[1], makers) for part in (scaled, node))
    if epsilon is None or count is None or scale not in constants or shift not in constants:
        return None
    if constants[scale].size != float(count):  # the mean of other numbers than those scaled
        return None
    return _uncast(centred.input[0], makers), scale, shift, float(epsilon)


def _maker(node: Any, kind: str, place: int, of: str, makers: dict[str, Any]) -> Any:
    """The node of one kind that makes an input of a node of another; None for all others."""
    if node is None or node.op_type != kind or len(node.input) <= place:
        return None
    maker = makers.get(node.input[place])
    return maker if maker is not None and maker.op_type == of else None


def _uncast(name: str, makers: dict[str, Any]) -> str:
    """The value behind a Cast to float32, which the exporter puts before a normalisation."""
    maker = makers.get(name)
    if maker is not None and maker.op_type == "Cast" and maker.attribute[0].i == 1:
        return str(maker.input[0])
    return name
