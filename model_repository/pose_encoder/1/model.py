"""The streaming encoder of pose videos."""

from pipeline.triton.avatar import PoseModel as TritonPythonModel
