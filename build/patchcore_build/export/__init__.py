"""MindSpore cells to ONNX and MindIR, and the passes over those graphs."""
