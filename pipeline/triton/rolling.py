"""Triton's models of text-to-video streams, on the base of `pipeline.triton.models`:

RollingForcingModel   the public model: requests in, blocks out, BLS to the others
WindowModel           all levels of noise and the KV caches   (START, tick n, END)
RollingDecoderModel   the VAE decoder and its state           (START, block n, END)
RollingTextModel      prompts to text rows
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import served_rules
from pipeline.engines.onnx import Engine
from pipeline.identity.holders import Identity
from pipeline.rolling.decoder import RollingDecoder
from pipeline.rolling.device import WindowDevice
from pipeline.rolling.local import start_tensors
from pipeline.rolling.orchestrator import RollingForcing
from pipeline.rolling.request import RollingRequest, parse_rolling_request
from pipeline.sessions.text import Tokenizer, pad_text
from pipeline.triton.calls import BlsExecutor, tensors_of
from pipeline.triton.models import GraphModel, Model, PublicModel, SessionModel
from pipeline.triton.parameters import seconds, whole

WINDOW, DECODER, TEXT = "dit_window", "rolling_vae_decoder", "rolling_text_encoder"


class _Rolling(Model):
    """A model whose numbers are in rolling.json."""

    config_file = "rolling.json"

    def read_config(self, folder: Path) -> RollingConfig:
        return RollingConfig.load(folder / self.config_file)


class RollingTextModel(_Rolling, GraphModel):
    """`rolling_text_encoder`."""

    def load(self) -> None:
        threads = self.parameter("num_threads", whole)
        self.engine = Engine(self.folder / "text_encoder.onnx", threads)
        self.engine.warm_up()


class WindowModel(_Rolling, SessionModel):
    """`dit_window`; a tick that finishes no block is answered without a latent."""

    output, order = "latent", "tick"

    def device(self) -> WindowDevice:
        window = WindowDevice(self.folder, **self.engine_options())
        window.warm_up()
        return window


class RollingDecoderModel(_Rolling, SessionModel):
    """`rolling_vae_decoder`."""

    output = "frames"

    def device(self) -> RollingDecoder:
        decoder = RollingDecoder(self.folder, **self.engine_options())
        decoder.warm_up()
        return decoder


class RollingForcingModel(_Rolling, PublicModel):
    """`rolling_forcing`, the model that clients talk to."""

    def load(self) -> None:
        idle_timeout_s = self.parameter("idle_timeout_s", seconds)
        identity = self.identity()
        self.rules = served_rules(self.config)
        executor = RollingTritonExecutor(identity, self.config, self.folder, self.stateless([TEXT]))
        self.executor = executor
        self.orchestrator = RollingForcing(
            self.rules,
            executor,
            max_sessions=identity.max_sessions,
            idle_timeout_s=idle_timeout_s,
        )

    def parse(self, request: Any, *, start: bool, end: bool) -> RollingRequest:
        return parse_rolling_request(
            tensors_of(request),
            session=request.correlation_id(),
            start=start,
            end=end,
            rules=self.rules,
        )


class RollingTritonExecutor(BlsExecutor):
    """What `rolling_forcing` calls (`pipeline.rolling.lanes.RollingExecutor`)."""

    def __init__(
        self,
        identity: Identity,
        config: RollingConfig,
        folder: Path,
        stateless: Sequence[Identity],
    ) -> None:
        super().__init__(identity, {WINDOW: "tick", DECODER: "block"}, stateless)
        self.config = config
        self.tokenizer = Tokenizer(config, folder)

    def start(self, request: RollingRequest) -> None:
        self.forget_strangers()
        if request.text is not None:
            text = pad_text(request.text, self.config)
        else:
            text = self.encode_text(request.prompt or "")
        block = {"block": np.zeros(1, np.int64)}  # Triton sends no request without an input
        self.open(request.session, {WINDOW: start_tensors(request, text), DECODER: block})

    def encode_text(self, prompt: str) -> np.ndarray:
        return self.call(TEXT, self.tokenizer(prompt), ["text"])["text"]

    def tick(self, session: int, tick: int, **tensors: np.ndarray) -> np.ndarray | None:
        inputs = {"tick": np.array([tick], np.int64), **tensors}
        return self.hold(WINDOW, session, 0, inputs, ["latent"]).get("latent")

    def decode(self, session: int, block: int, latent: np.ndarray) -> np.ndarray:
        inputs = {"block": np.array([block], np.int64), "latent": latent}
        return self.hold(DECODER, session, 0, inputs, ["frames"])["frames"]
