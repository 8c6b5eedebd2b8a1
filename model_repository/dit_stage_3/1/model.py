"""One stage of the timestep-forcing pipeline."""

from pipeline.avatar_serving import StageModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
