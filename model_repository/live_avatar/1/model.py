"""Sessions, audio and the timestep-forcing pipeline."""

from pipeline.triton.avatar import LiveAvatarModel as TritonPythonModel
