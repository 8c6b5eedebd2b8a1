"""All levels of noise of text-to-video streams, and their caches."""

from pipeline.triton.rolling import WindowModel as TritonPythonModel
