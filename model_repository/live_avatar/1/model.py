"""Sessions, audio and the timestep-forcing pipeline."""

from pipeline.serving import LiveAvatarModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
