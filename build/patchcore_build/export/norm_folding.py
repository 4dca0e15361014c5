"""Normalisations of a graph, folded into the convolutions in front of them.

onnxruntime does the same when it loads a file, and then holds the weights twice: 95 MB more of
wide_resnet50_2. Folded here, in float64, the weights in the file are those that run.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from patchcore_build.export.graph_edits import drop_unused, made_by, read_counts


def fold_norms(graph: Any) -> None:
    """Conv without bias, BatchNormalization -> Conv with one; changes the graph in place.

    Only where nothing else reads the convolution's result or its weights.

    Args:
        graph: An onnx GraphProto.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    reads, makers = read_counts(graph), made_by(graph)
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        summed = norm.input[0]
        convolution = makers.get(summed)
        if convolution is None or convolution.op_type != "Conv" or len(convolution.input) != 2:
            continue
        kernel = convolution.input[1]
        if reads[summed] != 1 or reads[kernel] != 1 or kernel not in weights:
            continue
        weight, bias = _folded(weights[kernel], norm, weights)
        name = f"{kernel.removesuffix('.weight')}.bias"
        weights[kernel].CopyFrom(numpy_helper.from_array(weight, kernel))
        graph.initializer.append(numpy_helper.from_array(bias, name))
        convolution.input.append(name)
        convolution.output[0] = norm.output[0]
        graph.node.remove(norm)
    drop_unused(graph)


def _folded(
    kernel: Any, norm: Any, weights: dict[str, Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (O, I, h, w) and bias (O,) that give what the convolution and its norm give."""
    epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
    weight, gamma, beta, mean, variance = (
        numpy_helper.to_array(tensor).astype(np.float64)
        for tensor in (kernel, *(weights[name] for name in norm.input[1:5]))
    )
    scale = gamma / np.sqrt(variance + epsilon)
    folded = weight * scale[:, None, None, None]
    return folded.astype(np.float32), (beta - mean * scale).astype(np.float32)
