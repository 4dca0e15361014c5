"""Export MindSpore cells to ONNX and MindIR, and rewrite those graphs."""
