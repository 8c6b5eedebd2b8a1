"""One client's stream as the orchestrator sees it: audio in, blocks due, requests to answer.

Touched by the orchestrator's control thread alone, so it has no locks.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pipeline.audio_features import AudioWindow, StreamingAudio
from pipeline.config import PipelineConfig
from pipeline.noise import block_noise, seeded_sink_distance
from pipeline.request import AvatarRequest

MAX_BACKLOG_SECONDS = 1200
"""Audio, or blocks for as long, that may wait in a session for their turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFrames:
    """One answered block."""

    block: int
    frame_index: int
    """Index of frames[0] in the stream."""
    frames: np.ndarray
    """uint8 RGB [T, H, W, 3]."""
    latent: np.ndarray
    """Final latent float32 [1, C, F, h, w]."""
    timings_ms: np.ndarray
    """float32: total, queued, audio encoder, VAE decoder, every stage (docs/protocol.md)."""


class Reply(Protocol):
    """Where the answers of one request go. `finish` or `fail` ends it, once."""

    def send(self, block: BlockFrames) -> None: ...
    def finish(self) -> None: ...
    def fail(self, message: str) -> None: ...
    def cancelled(self) -> bool: ...


@dataclass(slots=True)
class OpenRequest:
    """A request that isn't final yet: it waits for the blocks before `blocks_due`."""

    reply: Reply
    blocks_due: int


@dataclass(slots=True, kw_only=True)
class BlockInput:
    """A block that may enter stage 0: its features are here."""

    num_frames: int
    """Video frames of audio in it; the last block of a stream may hold fewer than the others."""
    audio_features: np.ndarray
    audio_ms: float
    ready_at: float


@dataclass(slots=True, eq=False)
class Session:
    """State of one stream. `eq=False`: a session is itself, whatever its fields hold."""

    request: AvatarRequest
    """The START request: seed, options."""
    config: PipelineConfig
    last_seen: float
    audio: StreamingAudio = field(init=False)
    starting: bool = True
    """Conditioning is under way; a session that fails meanwhile closes when it is done."""
    started: bool = False
    """Conditioning is done and every stage holds the session."""
    closing: bool = False
    failed: str | None = None
    ended: bool = False
    """END has come: no more audio."""
    encoding: bool = False
    """A window of this session is with the audio encoder."""
    uses_features: bool | None = None
    num_feature_blocks: int = 0
    next_block: int = 0
    """Next block to enter stage 0."""
    in_flight: int = 0
    """Blocks between stage 0's queue and the decoder."""
    next_delivery: int = 0
    recalibrated: np.ndarray | None = None
    """First generated latent frame [1, C, 1, h, w], once it is there."""
    ready: deque[BlockInput] = field(default_factory=deque)
    requests: deque[OpenRequest] = field(default_factory=deque)
    finished: dict[int, BlockFrames] = field(default_factory=dict)
    """Decoded blocks that wait for their predecessors' delivery."""
    given_noise: deque[np.ndarray] = field(default_factory=deque)
    given_distance: deque[np.ndarray] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.audio = StreamingAudio(self.config)

    @property
    def id(self) -> int:
        return self.request.session

    @property
    def blocks_known(self) -> int:
        """Blocks that the input so far completes."""
        return self.num_feature_blocks if self.uses_features else self.audio.num_blocks

    def take(self, request: AvatarRequest, now: float) -> None:
        """Append a request's audio or features; ValueError or RuntimeError if it can't be."""
        if self.ended:
            raise RuntimeError(f"session {self.id} has ended; open a new one with START")
        given = request.audio_features is not None
        has_sound = given or request.audio is not None
        if has_sound and self.uses_features not in (None, given):
            raise ValueError("a session takes audio or audio_features, not one after the other")
        self._check_backlog(request)
        if has_sound:
            self.uses_features = given
        if request.noise is not None:
            self.given_noise.extend(request.noise)
        if request.sink_distance is not None:
            self.given_distance.extend(request.sink_distance)
        if request.audio is not None:
            self.audio.append(request.audio)
        if request.audio_features is not None:
            self._take_features(request.audio_features, now)
        if request.end:
            self.ended = True
            if not self.uses_features:
                self.audio.finish()

    def _check_backlog(self, request: AvatarRequest) -> None:
        """ValueError if a client is so far ahead that its input would fill the memory of all."""
        c, audio, features = self.config, request.audio, request.audio_features
        block_s = c.samples_per_block / c.sample_rate
        waiting = {
            "audio": (self.audio.num_samples_pending / c.sample_rate, audio, 1 / c.sample_rate),
            "noise": (len(self.given_noise) * block_s, request.noise, block_s),
            "sink_distance": (len(self.given_distance) * block_s, request.sink_distance, block_s),
        }
        if features is not None:
            waiting["audio_features"] = (len(self.ready) * block_s, features[0, 0, 0], 1 / c.fps)
        for name, (waits, given, unit_s) in waiting.items():
            comes = 0.0 if given is None else len(given) * unit_s
            if comes and waits + comes > MAX_BACKLOG_SECONDS:
                raise ValueError(
                    f"{name} for {comes:.2f} s came while {waits:.2f} s wait for their turn, at "
                    f"most {MAX_BACKLOG_SECONDS} s may wait; send no faster than answers come"
                )

    def _take_features(self, features: np.ndarray, now: float) -> None:
        per_block = self.config.video_frames_per_block
        for start in range(0, features.shape[3], per_block):
            block = np.ascontiguousarray(features[..., start : start + per_block])
            self.ready.append(
                BlockInput(num_frames=per_block, audio_features=block, audio_ms=0.0, ready_at=now)
            )
            self.num_feature_blocks += 1

    def next_window(self) -> AudioWindow | None:
        """The next audio window to encode, if one is due and none is under way."""
        if self.closing or self.encoding or self.uses_features or len(self.ready) > 1:
            return None
        return self.audio.next_window()

    def can_dispatch(self) -> bool:
        """Whether the next block has all it needs to enter stage 0."""
        if not self.started or self.closing or not self.ready:
            return False
        waits = self.request.options.recalibrate and self.recalibrated is None
        return not (waits and self.next_block >= self.config.recalibrate_block)

    def noise(self, block: int) -> np.ndarray:
        """Step 0's input [1, C, F, h, w]."""
        if self.given_noise:
            return self.given_noise.popleft()[None]
        return block_noise(self.request.seed, block, self.config.latent_shape)

    def sink_distance(self, block: int) -> np.ndarray:
        """int64 [num_steps]."""
        if self.given_distance:
            return self.given_distance.popleft()
        c, fixed = self.config, self.request.options.sink_distance
        if fixed is not None:
            return np.full(c.num_steps, fixed, np.int64)
        return seeded_sink_distance(
            self.request.seed, block, c.num_steps, c.sink_distance_min, c.sink_distance_max
        )

    def sink_reference(self, block: int) -> np.ndarray | None:
        """What the sink is re-calibrated with before `block`, or None."""
        due = block == self.config.recalibrate_block and self.request.options.recalibrate
        return self.recalibrated if due else None

    def forget_conditions(self) -> None:
        """Let go of what START carried (a picture may be large) once the stages have it."""
        self.request = dataclasses.replace(
            self.request,
            image=None,
            text=None,
            audio=None,
            audio_features=None,
            noise=None,
            sink_distance=None,
        )

    def deliver(self, done: BlockFrames) -> None:
        """Answer with every block whose turn it is; requests that are complete become final."""
        self.finished[done.block] = done
        while self.next_delivery in self.finished:
            block = self.finished.pop(self.next_delivery)
            assert self.requests, "a block nobody waits for"
            if len(block.frames):
                self.requests[0].reply.send(block)
            self.next_delivery += 1
            self.finish_requests()

    def finish_requests(self) -> None:
        """Make complete requests final; END's stays open until the session is closed."""
        while self.started and self.requests:
            last = self.ended and len(self.requests) == 1
            if self.requests[0].blocks_due > self.next_delivery or last:
                return
            self.requests.popleft().reply.finish()

    def is_complete(self) -> bool:
        """END has come and every block is delivered."""
        return self.started and self.ended and self.next_delivery >= self.blocks_known
