"""Sessions of text-to-video streams."""

from pipeline.rolling_serving import RollingForcingModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
