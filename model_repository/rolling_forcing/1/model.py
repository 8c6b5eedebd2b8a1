"""Sessions of text-to-video streams."""

from pipeline.triton.rolling import RollingForcingModel as TritonPythonModel
