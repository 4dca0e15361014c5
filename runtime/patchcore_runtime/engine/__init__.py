"""ONNX Runtime sessions, and the ONNX files that they load."""
