"""Token ids to text conditioning, on ONNX Runtime."""

from pipeline.rolling_serving import RollingTextModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
