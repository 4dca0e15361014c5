"""Graphs of a few nodes over a batch of planes, to test passes that rewrite a graph."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Level = onnxruntime.GraphOptimizationLevel


def small_model(nodes, shape, results, arrays):
    """Make a model: `planes` (B, *shape) float32 through nodes to other planes; arrays by name."""
    planes = helper.make_tensor_value_info("planes", TensorProto.FLOAT, ["B", *shape])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list("BCHW")) for name in results
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "one", [planes], ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


def as_float32(arrays):
    """Return the same arrays by name, in float32."""
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def rewritten(model, rewrite):
    """Return a copy that `rewrite` changed in place, still valid, and the return value."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    returned = rewrite(copy)
    onnx.checker.check_model(copy, full_check=True)
    return copy, returned


def run_model(model, planes, results=None, level=Level.ORT_ENABLE_ALL):
    """Return the results by name, or all results."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(results, {"planes": planes})
