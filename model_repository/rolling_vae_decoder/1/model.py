"""The streaming VAE decoder of text-to-video streams."""

from pipeline.rolling_serving import RollingDecoderModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
