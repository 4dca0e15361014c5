"""What onnxruntime makes of a graph when it loads it."""

import onnx
import onnxruntime


def loaded_graph(path, folder):
    """The GraphProto that runs, of a file; leaves it in a folder."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "loaded.onnx").graph
