"""A window of normalised samples to the features of one block, on ONNX Runtime."""

from pipeline.triton.models import GraphModel as TritonPythonModel
