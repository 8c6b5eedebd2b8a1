"""Text-to-video streams in one process: the models' code without a server."""

from pathlib import Path

from pipeline.config.rolling import RollingConfig
from pipeline.engines.onnx import Engine
from pipeline.rolling.decoder import RollingDecoder
from pipeline.rolling.device import WindowDevice
from pipeline.rolling.executor import DECODER, TEXT, WINDOW, RollingExecutor
from pipeline.sessions.calls import LocalCalls


def local_executor(folder: Path, *, num_threads: int = 1, max_sessions: int = 4) -> RollingExecutor:
    """Every model of `folder` (an artifacts folder) in this process."""
    text_encoder = Engine(folder / "text_encoder.onnx", num_threads)
    calls = LocalCalls(
        {TEXT: text_encoder.run},
        {WINDOW: WindowDevice(folder, num_threads), DECODER: RollingDecoder(folder, num_threads)},
        max_sessions,
    )
    return RollingExecutor(RollingConfig.load(folder / "rolling.json"), folder, calls)
