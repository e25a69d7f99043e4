"""Graphs of ONNX: texts, vectors, scores, classes, arrays."""
