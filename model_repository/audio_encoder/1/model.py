"""A window of normalised samples to the features of one block, on ONNX Runtime."""

from pipeline.serving import GraphModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
