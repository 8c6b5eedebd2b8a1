"""Token ids to text conditioning, on ONNX Runtime."""

from pipeline.triton.rolling import RollingTextModel as TritonPythonModel
