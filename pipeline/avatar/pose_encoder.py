"""Frames of pose videos to latents, with every session's causal convolution state.

The release encodes a pose video in clips of four blocks, each from the start: the clip's first
frame is put before it once more, and the latent of that frame is left out (docs/method.md section
5). So what a block becomes depends on the blocks of its clip, and on nothing else.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Array, BoundGraph, EngineLoader
from pipeline.engines.onnx import Engine

CLIP_BLOCKS = 4
"""Blocks of a clip: 48 frames, as the release encodes them."""


@dataclass(slots=True, kw_only=True)
class PoseState:
    """One session's buffers, there twice: one set is read and the other one written."""

    start: BoundGraph  # writes what the first of `turns` reads
    turns: list[BoundGraph]
    next_block: int = -1
    turn: int = 0


class PoseEncoder:
    """`open`, `step` and `close` are called by one thread."""

    def __init__(
        self, folder: Path, num_threads: int = 1, load_engine: EngineLoader = Engine
    ) -> None:
        """Load pipeline.json, pose_encoder.onnx and pose_encoder_start.onnx."""
        self.config = PipelineConfig.load(folder / "pipeline.json")
        self.engine = load_engine(folder / "pose_encoder.onnx", num_threads)
        self.start_engine = load_engine(folder / "pose_encoder_start.onnx", num_threads)
        self.sessions: dict[int, PoseState | None] = {}

    def open(self, session: int) -> None:
        """A place for the session, without memory: it may never send a pose."""
        self.sessions[session] = None

    def step(self, session: int, block: int, frames: Array) -> Array:
        """Encode a block's frames uint8 [T, H, W, 3] to a latent [1, C, F, h, w], valid until the
        next call but one of this session. A block that does not follow the one before it, or that
        begins a clip, is encoded as a clip's first."""
        state = self.sessions[session] or self._state()
        self.sessions[session] = state
        if block % CLIP_BLOCKS == 0 or block != state.next_block:
            state.start.run({"frames": frames[:1]})
            state.turn = 0
        pose: Array = state.turns[state.turn].run({"frames": frames})["pose"]
        state.turn, state.next_block = 1 - state.turn, block + 1
        return pose

    def _state(self) -> PoseState:
        even, odd = self.engine.new_buffers("state_"), self.engine.new_buffers("state_")
        follows = [{f"next_{name}": a for name, a in buffers.items()} for buffers in (even, odd)]
        return PoseState(
            start=self.start_engine.bind({}, follows[0]),
            turns=[self.engine.bind(even, follows[1]), self.engine.bind(odd, follows[0])],
        )

    @property
    def cache_bytes(self) -> int:
        return self.engine.cache_bytes

    def warm_up(self) -> None:
        """Run both graphs once: the first run would take two or three times as long."""
        c, nobody = self.config, -1
        self.open(nobody)
        self.step(nobody, 0, np.zeros((c.video_frames_per_block, c.height, c.width, 3), np.uint8))
        self.close(nobody)

    def close(self, session: int) -> None:
        """Free the session's state; unknown sessions are ignored."""
        self.sessions.pop(session, None)
