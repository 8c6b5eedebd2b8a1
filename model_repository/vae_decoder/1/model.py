"""The streaming VAE decoder."""

from pipeline.avatar_serving import DecoderModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
