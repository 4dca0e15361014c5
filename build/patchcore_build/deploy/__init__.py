"""Forms of an artifact for other programs: one ONNX file, a Triton repository, another MindIR."""
