"""A session's pose: frames, or latents in their place, on their way to the blocks of the video.

Pose is on the video's clock, and follows on what came before. After a gap it begins at the first
block that its request completes, as a new prompt does. So what a block follows depends on the order
of requests, and not on when they came.
"""

from dataclasses import dataclass, field

import numpy as np

from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Array, Arrays
from pipeline.sessions.kept import Kept

MAX_WAITING_BYTES = 256 * 2**20
"""Of frames that wait in a session for their turn."""
AHEAD = 2
"""Blocks that are encoded before their turn."""


@dataclass(slots=True, kw_only=True)
class Pose:
    """Touched by the orchestrator's control thread alone."""

    config: PipelineConfig
    is_served: bool  # whether there is an encoder
    latents: dict[int, Array] = field(default_factory=dict)
    """What blocks follow that have not entered yet, [1, C, F, h, w]."""
    encoding: int | None = None  # the block that is with the encoder
    next_tick: int = 0  # blocks that the encoder was given
    _waiting: dict[int, Array] = field(default_factory=dict)  # frames [T, H, W, 3] of whole blocks
    _open: Array | None = None  # frames of block `_next`, which is not whole yet
    _next: int = 0  # where pose goes on
    _is_latent: bool | None = None

    @property
    def num_waiting(self) -> int:
        """Frames that are not with the encoder yet."""
        begun = 0 if self._open is None else len(self._open)
        return len(self._waiting) * self.config.video_frames_per_block + begun

    def check(self, frames: Array | None, latents: Array | None) -> None:
        """ValueError if they can't be taken."""
        if frames is None and latents is None:
            return
        if self._is_latent not in (None, latents is not None):
            raise ValueError("a session takes pose or pose_latents, not one after the other")
        if frames is None:
            return
        if not self.is_served:
            raise ValueError(
                "pose came to a server without a pose encoder; assemble its repository with one: "
                "make stop, then make serve POSE=1"
            )
        if self._open is not None and self._open.shape[1:] != frames.shape[1:]:
            height, width = self._open.shape[1:3]
            raise ValueError(
                f"pose has frames of {frames.shape[2]} x {frames.shape[1]} pixels in the middle of "
                f"a block of {width} x {height}, wanted one size"
            )
        held = sum(array.nbytes for array in self._waiting.values())
        if held and held + frames.nbytes > MAX_WAITING_BYTES:
            raise ValueError(
                f"pose of {frames.nbytes} bytes came while {held} bytes wait for their turn, at "
                f"most {MAX_WAITING_BYTES} may wait; send no faster than answers come"
            )

    def take(self, frames: Array | None, latents: Array | None, first: int) -> None:
        """What a request brings, checked; `first`: the first block that it can complete."""
        if frames is None and latents is None:
            return
        self._is_latent = latents is not None
        self._next = max(self._next, first)
        for latent in () if latents is None else latents:
            self.latents[self._next] = latent[None]
            self._next += 1
        if frames is not None:
            self._append(frames)

    def close(self, known: int) -> None:
        """The sound of blocks before `known` is complete: no more pose comes for them. Black frames
        fill the one that is begun, as the release fills its last clip."""
        if self._open is not None and self._next < known:
            missing = self.config.video_frames_per_block - len(self._open)
            self._append(np.zeros((missing, *self._open.shape[1:]), np.uint8))

    def _append(self, frames: Array) -> None:
        size = self.config.video_frames_per_block
        frames = frames if self._open is None else np.concatenate([self._open, frames])
        while len(frames) >= size:
            self._waiting[self._next] = frames[:size]
            self._next, frames = self._next + 1, frames[size:]
        self._open = frames if len(frames) else None

    def next_frames(self, next_block: int) -> tuple[int, Array] | None:
        """The block whose frames [T, H, W, 3] are to be encoded now, if any."""
        if self.encoding is not None or not self._waiting:
            return None
        block = next(iter(self._waiting))
        if block > next_block + AHEAD:
            return None
        self.encoding = block
        return block, self._waiting.pop(block)

    def encoded(self, block: int, latent: Array | None) -> None:
        """The encoder is done with a block."""
        self.encoding = None
        if latent is not None:
            self.latents[block] = latent

    def is_ready(self, block: int) -> bool:
        """Whether nothing is left to be encoded for a block."""
        return block != self.encoding and block not in self._waiting


class KeptPose(Kept):
    """A session at the encoder, which begins at any block."""

    def history(self) -> list[tuple[int, Arrays]]:
        return [(tick, self.steps[tick]) for tick in sorted(self.steps)]
