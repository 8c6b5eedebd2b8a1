"""The features of one block to its audio tokens, on ONNX Runtime."""

from pipeline.serving import GraphModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
