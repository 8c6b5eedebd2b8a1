"""All levels of noise of text-to-video streams, and their caches."""

from pipeline.rolling_serving import WindowModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
