"""What onnxruntime makes of a graph when it loads it."""

import onnx
import onnxruntime

Level = onnxruntime.GraphOptimizationLevel


def loaded_graph(model, folder, level=Level.ORT_ENABLE_ALL):
    """The GraphProto that runs, of a file or its bytes; leaves it in a folder."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "loaded.onnx").graph
