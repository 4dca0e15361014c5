"""The graph into which onnxruntime optimises a file when it loads it."""

import onnx
import onnxruntime


def loaded_graph(path, folder):
    """Return the GraphProto that runs for a file; it is also left in a folder."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "loaded.onnx").graph
