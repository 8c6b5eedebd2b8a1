"""One stage of the timestep-forcing pipeline."""

from pipeline.serving import StageModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
