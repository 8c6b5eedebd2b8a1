"""The streaming VAE decoder."""

from pipeline.serving import DecoderModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
