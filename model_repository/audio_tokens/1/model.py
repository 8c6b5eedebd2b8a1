"""The features of one block to its audio tokens, on ONNX Runtime."""

from pipeline.triton.models import GraphModel as TritonPythonModel
