"""Token ids to text conditioning, on ONNX Runtime."""

from pipeline.serving import GraphModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
