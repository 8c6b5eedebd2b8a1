"""The reference image to motion latents, on ONNX Runtime."""

from pipeline.triton.models import GraphModel as TritonPythonModel
