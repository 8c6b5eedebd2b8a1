"""Token ids to text conditioning, on ONNX Runtime."""

from pipeline.triton.models import GraphModel as TritonPythonModel
