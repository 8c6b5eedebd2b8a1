"""Sessions, audio and the timestep-forcing pipeline."""

from pipeline.avatar_serving import LiveAvatarModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
