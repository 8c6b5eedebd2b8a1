"""The reference image to motion latents, on ONNX Runtime."""

from pipeline.serving import GraphModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
