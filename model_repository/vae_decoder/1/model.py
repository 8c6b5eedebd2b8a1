"""The streaming VAE decoder."""

from pipeline.triton.avatar import DecoderModel as TritonPythonModel
