"""Graphs that run: ONNX Runtime, TensorRT, and the sessions of one device."""
