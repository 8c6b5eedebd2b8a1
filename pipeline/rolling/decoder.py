"""Latents of a text-to-video stream to RGB frames, with every session's convolution state, read
from one set of buffers and written to a second; they swap roles from block to block. No picture
comes first: the first block's graph starts from nothing and gives 9 frames, the others 12."""

from pathlib import Path

import numpy as np

from pipeline.config.rolling import RollingConfig
from pipeline.engines.base import Array, BoundGraph, EngineLoader
from pipeline.engines.onnx import Engine


class RollingDecoder:
    """`open`, `step` and `close` are called by one thread."""

    def __init__(
        self, folder: Path, num_threads: int = 1, load_engine: EngineLoader = Engine
    ) -> None:
        """Load rolling.json, vae_decoder_first.onnx and vae_decoder.onnx."""
        self.config = RollingConfig.load(folder / "rolling.json")
        self.first_engine = load_engine(folder / "vae_decoder_first.onnx", num_threads)
        self.engine = load_engine(folder / "vae_decoder.onnx", num_threads)
        self.sessions: dict[int, list[BoundGraph]] = {}

    def open(self, session: int) -> None:
        """Start a stream."""
        even, odd = self.engine.new_buffers("state_"), self.engine.new_buffers("state_")

        def nexts(states: dict[str, Array]) -> dict[str, Array]:
            return {f"next_{name}": array for name, array in states.items()}

        self.sessions[session] = [
            self.engine.bind(odd, nexts(even)),
            self.engine.bind(even, nexts(odd)),
            self.first_engine.bind({}, nexts(even)),
        ]

    def step(self, session: int, block: int, latent: Array) -> Array:
        """Decode a latent [1, C, F, h, w] to frames uint8 [T, H, W, 3], valid until the next call
        but one of this session."""
        graphs = self.sessions[session]
        bound = graphs.pop() if block == 0 else graphs[block % 2]
        frames: Array = bound.run({"latent": latent})["frames"]
        return frames

    @property
    def cache_bytes(self) -> int:
        return self.engine.cache_bytes

    def warm_up(self) -> None:
        """Run both graphs once: the first run would take two or three times as long."""
        nobody = -1
        self.open(nobody)
        for block in range(2):
            self.step(nobody, block, np.zeros(self.config.latent_shape, np.float32))
        self.close(nobody)

    def close(self, session: int) -> None:
        """Free the session's state; unknown sessions are ignored."""
        self.sessions.pop(session, None)
