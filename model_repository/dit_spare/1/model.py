"""One stage of the timestep-forcing pipeline."""

from pipeline.triton.avatar import StageModel as TritonPythonModel
