"""What both systems' executors share: the calls that a session begins and ends with."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from pipeline.engines.base import Array
from pipeline.sessions.calls import Calls
from pipeline.sessions.text import Tokenizer


class Executor(ABC):
    """Runs the models. Every call blocks and may come from any thread."""

    decoder: ClassVar[str]
    """The model that makes frames of latents."""

    def __init__(self, config: PipelineConfig | RollingConfig, folder: Path, calls: Calls) -> None:
        """`folder` has the tokenizer."""
        self.config = config
        self.tokenizer = Tokenizer(config, folder)
        self.calls = calls

    @abstractmethod
    def start(self, request: Any) -> None:
        """Condition on what START brought, and open the session at every model that holds it."""

    def decode(self, session: int, block: int, latent: Array) -> Array:
        """Frames uint8 [T, H, W, 3]."""
        frames = self.calls.step(self.decoder, session, block, {"latent": latent})
        assert frames is not None, "the decoder answered without frames"
        return frames

    def close(self, session: int) -> None:
        """Free the session everywhere; never raises."""
        self.calls.close(session)

    def stop(self) -> None:
        """End what carries the calls."""
        self.calls.stop()
