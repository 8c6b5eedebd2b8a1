"""Text-to-video streams in one process: the models' code without a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.avatar.local import wait_for
from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import served_rules
from pipeline.engines.device_sessions import SessionWorker
from pipeline.engines.onnx import Engine
from pipeline.rolling.decoder import RollingDecoder
from pipeline.rolling.device import WindowDevice
from pipeline.rolling.request import RollingRequest
from pipeline.sessions.text import Tokenizer, pad_text


class RollingLocalExecutor:
    """Runs every model of `folder` (an artifacts folder) in this process, on threads."""

    def __init__(self, folder: Path, *, num_threads: int = 1, max_sessions: int = 4) -> None:
        self.config = RollingConfig.load(folder / "rolling.json")
        self.rules = served_rules(self.config)
        self.tokenizer = Tokenizer(self.config, folder)
        self.text_encoder = Engine(folder / "text_encoder.onnx", num_threads)
        self.device, decoder = (
            WindowDevice(folder, num_threads),
            RollingDecoder(folder, num_threads),
        )
        self.window = SessionWorker(self.device, "window", max_sessions)
        self.decoder = SessionWorker(decoder, "decoder", max_sessions)

    def start(self, request: RollingRequest) -> None:
        if request.text is not None:
            text = pad_text(request.text, self.config)
        else:
            text = self.encode_text(request.prompt or "")
        tensors = start_tensors(request, text)
        wait_for(self.window.open, request.session, tensors)
        wait_for(self.decoder.open, request.session, {})

    def encode_text(self, prompt: str) -> np.ndarray:
        return self.text_encoder.run(self.tokenizer(prompt))["text"]

    def tick(self, session: int, tick: int, **tensors: np.ndarray) -> np.ndarray | None:
        return wait_for(self.window.step, session, tick, tensors)

    def decode(self, session: int, block: int, latent: np.ndarray) -> np.ndarray:
        return wait_for(self.decoder.step, session, block, {"latent": latent})

    def close(self, session: int) -> None:
        for worker in (self.window, self.decoder):
            wait_for(worker.close, session)

    def stop(self) -> None:
        """End every worker."""
        for worker in (self.window, self.decoder):
            worker.stop()


def start_tensors(request: RollingRequest, text: np.ndarray) -> dict[str, np.ndarray]:
    """What opens a session at `dit_window`: text [1, text_len, text_dim], seed, rules."""
    return {
        "text": text,
        "seed": np.array([request.seed], np.int64),
        "rules": np.frombuffer(request.options.rules.encode(), np.uint8),
    }
