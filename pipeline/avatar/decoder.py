"""The last stage: final latents to RGB frames, with every session's causal convolution state, read
from one set of buffers and written to a second; they swap roles from block to block. A stream
starts from the first motion latents, decoded and thrown away (docs/method.md section 5)."""

from pathlib import Path

import numpy as np

from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Array, BoundGraph, EngineLoader
from pipeline.engines.onnx import Engine


class Decoder:
    """`open`, `step` and `close` are called by one thread."""

    def __init__(
        self, folder: Path, num_threads: int = 1, load_engine: EngineLoader = Engine
    ) -> None:
        """Load pipeline.json, vae_decoder.onnx and vae_decoder_warmup.onnx."""
        self.config = PipelineConfig.load(folder / "pipeline.json")
        self.engine = load_engine(folder / "vae_decoder.onnx", num_threads)
        self.warmup_engine = load_engine(folder / "vae_decoder_warmup.onnx", num_threads)
        self.sessions: dict[int, list[BoundGraph]] = {}

    def open(self, session: int, motion: Array) -> None:
        """Warm up from motion latents [1, C, motion_frames, h, w]."""
        even, odd = self.engine.new_buffers("state_"), self.engine.new_buffers("state_")
        warmup = self.warmup_engine.bind({}, {f"next_{name}": a for name, a in even.items()})
        warmup.run({"motion": motion[:, :, : self.config.warmup_frames]})
        self.sessions[session] = [
            self.engine.bind(reads, {f"next_{name}": a for name, a in writes.items()})
            for reads, writes in ((even, odd), (odd, even))
        ]

    def step(self, session: int, block: int, latent: Array | None = None) -> Array | None:
        """Decode a latent [1, C, F, h, w] to frames uint8 [T, H, W, 3], valid until the next call
        but one of this session. Nothing without a latent: then nobody wants the block any more."""
        if latent is None:
            return None
        frames: Array = self.sessions[session][block % 2].run({"latent": latent})["frames"]
        return frames

    @property
    def cache_bytes(self) -> int:
        return self.engine.cache_bytes

    def warm_up(self) -> None:
        """Run both graphs once: the first run would take two or three times as long."""
        c, nobody = self.config, -1
        size = (c.latent_height, c.latent_width)
        self.open(nobody, np.zeros((1, c.latent_channels, c.motion_frames, *size), np.float32))
        self.step(nobody, 0, np.zeros(c.latent_shape, np.float32))
        self.close(nobody)

    def close(self, session: int) -> None:
        """Free the session's state; unknown sessions are ignored."""
        self.sessions.pop(session, None)
