"""The streaming VAE decoder of text-to-video streams."""

from pipeline.triton.rolling import RollingDecoderModel as TritonPythonModel
