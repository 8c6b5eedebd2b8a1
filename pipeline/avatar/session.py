"""One avatar's stream as the orchestrator sees it: audio in, blocks due.

Touched by the orchestrator's control thread alone, so it has no locks.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.avatar.audio import AudioWindow, StreamingAudio
from pipeline.avatar.onsets import Onsets
from pipeline.avatar.pose import Pose
from pipeline.avatar.request import ANY_BLOCK, AvatarRequest
from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.noise import block_noise, seeded_sink_distance
from pipeline.engines.base import Array, Arrays
from pipeline.sessions.session import Interrupted, ServedSession

MAX_PROMPTS = 16
MAX_BACKLOG_SECONDS = 1200
"""Audio, or blocks for as long, that may wait in a session for their turn."""


@dataclass(slots=True, kw_only=True)
class BlockInput:
    """A block that may enter stage 0: its audio tokens are here."""

    num_frames: int
    """Video frames of audio in it; the last block of a stream may hold fewer than the others."""
    generation: int  # of the session when its sound was taken
    audio_tokens: Arrays  # audio_local and audio_global, as `Stage.step` takes them
    audio_ms: float
    ready_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFeatures:
    """A block's features that came in place of sound."""

    audio_features: Array  # [actors, L+1, Ca, num_frames]
    num_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a block begins with, besides its sound. Made again, it begins with the same."""

    block: int
    noise: Array  # step 0's input [1, C, F, h, w]
    sink_distance: Array  # int64 [num_steps]
    pose: Array | None  # latent of a pose video's frames, shaped as noise


Sound = tuple[AudioWindow, ...] | GivenFeatures
"""What a block's audio tokens are made of: a window for each actor, or features."""


@dataclass(slots=True, eq=False, kw_only=True)
class AvatarSession(ServedSession):
    """State of one avatar's stream."""

    CONDITIONS = (
        *("image", "text", "audio", "audio_features", "noise", "sink_distance"),
        *("actor_masks", "pose", "pose_latents"),
    )

    request: AvatarRequest
    config: PipelineConfig
    takes_pose: bool = False  # whether frames of a pose video can be encoded
    voices: list[StreamingAudio] = field(init=False)
    """Of each actor; all go on together."""
    pose: Pose = field(init=False)
    onsets: Onsets = field(init=False)
    encoding: bool = False  # a block's sound is with the audio models
    uses_features: bool | None = None
    num_feature_blocks: int = 0
    generation: int = 0  # interruptions so far
    next_block: int = 0  # next block to enter stage 0
    next_tick: int = 0  # blocks that have entered it, those counted that were made again
    newest: Entry | None = None  # of the last block that entered
    superseded: set[int] = field(default_factory=set)
    """Ticks of blocks that are under way and are made again."""
    first_step: tuple[int, Array] | None = None
    """The newest block that has passed the first stage, and its latent then, if it may be wanted.
    The first stage's lane alone reads and writes it."""
    prompts: dict[int, AvatarRequest] = field(default_factory=dict)
    """What the video shows from a block on; the requests that say it."""
    reanchors: bool = False  # its next block begins a new ring
    is_degraded: bool = False  # its newest block was begun with a step less
    ring_start: Array = field(init=False)
    """int64 [num_steps]: the first block that each step's ring may hold."""
    recalibrated: Array | None = None
    """First generated latent frame [1, C, 1, h, w], once it is there."""
    ready: deque[BlockInput] = field(default_factory=deque)
    given_features: deque[GivenFeatures] = field(default_factory=deque)
    given_noise: deque[Array] = field(default_factory=deque)
    given_distance: deque[Array] = field(default_factory=deque)

    def __post_init__(self) -> None:
        config, options = self.config, self.request.options
        if (ahead := options.look_ahead_frames) is not None:
            config = replace(config, audio_lookahead_frames=ahead)
        self.ring_start = np.zeros(self.config.num_steps, np.int64)
        self.onsets = Onsets(config.samples_per_block, config.sample_rate)
        self.voices = [
            StreamingAudio(config, skips_idle=options.live) for _ in range(self.request.num_actors)
        ]
        self.pose = Pose(config=self.config, is_served=self.takes_pose)

    @property
    def audio(self) -> StreamingAudio:
        """The first actor's, whose clock is that of all."""
        return self.voices[0]

    @property
    def block_s(self) -> float:
        return self.config.video_frames_per_block / self.config.fps

    @property
    def blocks_known(self) -> int:
        return self.num_feature_blocks if self.uses_features else self.audio.num_blocks

    @property
    def fps(self) -> float:
        return self.config.fps

    def take(self, request: AvatarRequest) -> Interrupted | None:
        given = request.audio_features is not None
        has_sound = given or request.audio is not None
        if has_sound and self.uses_features not in (None, given):
            raise ValueError("a session takes audio or audio_features, not one after the other")
        self._check_actors(request)
        self._check_backlog(request)
        self.pose.check(request.pose, request.pose_latents)
        changes = request.has_prompt and not request.start
        if changes and len(self.prompts) >= MAX_PROMPTS:
            raise ValueError(f"{MAX_PROMPTS} prompts wait for their blocks, no more are taken")
        if request.interrupt is not None:
            self._check_interruption(request.interrupt)
        answer = None if request.interrupt is None else self._interrupt(request.interrupt)
        self.pose.take(request.pose, request.pose_latents, self.blocks_known)
        if changes:
            self.prompts[self.blocks_known] = request
        if has_sound:
            self.uses_features = given
        if request.noise is not None:
            self.given_noise.extend(request.noise)
        if request.sink_distance is not None:
            self.given_distance.extend(request.sink_distance)
        if request.audio is not None:
            position = self.audio.num_samples
            self._append(request.audio, request.actors)
            if self.is_live:
                is_sound = np.atleast_2d(request.audio).any(axis=0)  # of any actor
                self.onsets.append(is_sound, position, time.monotonic())
        if request.audio_features is not None:
            self._take_features(request.audio_features)
        if request.end:
            self.end()
            if not self.uses_features:
                for voice in self.voices:
                    voice.finish()
        self.pose.close(self.blocks_known)
        return answer

    def _append(self, audio: Array, actors: Sequence[int]) -> None:
        """Sound [samples], or a row for each of `actors`; the others are silent meanwhile."""
        rows = dict(zip(actors, np.atleast_2d(audio), strict=True))
        for actor, voice in enumerate(self.voices):
            silent = actor not in rows
            voice.append(np.zeros(audio.shape[-1], np.float32) if silent else rows[actor])

    def _check_actors(self, request: AvatarRequest) -> None:
        """ValueError for the sound of actors that the session does not have."""
        has, features = len(self.voices), request.audio_features
        if features is not None and len(features) != has:
            raise ValueError(f"audio_features has {len(features)} actors, this session {has}")
        if unknown := [actor for actor in request.actors if actor >= has]:
            raise ValueError(
                f"actor_audio is of actor {unknown[0]}, this session has {has}: actors count from "
                "0, and START says how many they are by actor_masks"
            )

    def _check_interruption(self, block: int) -> None:
        first = 0 if self.newest is None else self.newest.block  # though it was withdrawn before
        if block != ANY_BLOCK and not first <= block <= self.next_block:
            raise ValueError(
                f"interrupt is at block {block}, wanted {first}..{self.next_block}, since block "
                f"{first} is the newest that was begun; or {ANY_BLOCK} for the first that was not"
            )

    def _interrupt(self, block: int) -> Interrupted:
        """Withdraw the sound from `block` on; the newest block that was begun is made again."""
        self.generation += 1
        self.ready.clear()
        self.given_features.clear()
        if ANY_BLOCK < block < self.next_block:
            if self.next_delivery < self.next_block:
                self.superseded.add(self.next_tick - 1)
            self.next_block -= 1
        self.num_feature_blocks = self.next_block
        if not self.uses_features:
            for voice in self.voices:
                voice.withdraw(self.next_block)
        self.onsets.restart(self.next_block)
        self.withdraw(self.next_block)
        if self.prompts:
            self.prompts = {self.next_block: self.prompts[max(self.prompts)]}
        return Interrupted(
            generation=self.generation,
            frame_index=self.frame_index(self.next_block),
            block=self.next_block,
        )

    def _check_backlog(self, request: AvatarRequest) -> None:
        """ValueError if a client is so far ahead that its input would fill the memory of all."""
        c, audio, features = self.config, request.audio, request.audio_features
        block_s = c.samples_per_block / c.sample_rate
        kept = 0 if request.interrupt is not None else len(self.voices)  # whose sound stays
        waiting = {
            "audio": (
                kept * self.audio.num_samples_pending / c.sample_rate,
                None if audio is None else audio.T,
                len(self.voices) / c.sample_rate,
            ),
            "pose": (self.pose.num_waiting / c.fps, request.pose, 1 / c.fps),
            "noise": (len(self.given_noise) * block_s, request.noise, block_s),
            "pose_latents": (len(self.pose.latents) * block_s, request.pose_latents, block_s),
            "sink_distance": (len(self.given_distance) * block_s, request.sink_distance, block_s),
        }
        if features is not None:
            waits = kept * (len(self.given_features) + len(self.ready)) * block_s
            waiting["audio_features"] = (waits, features[0, 0, 0], len(self.voices) / c.fps)
        for name, (waits, given, unit_s) in waiting.items():
            comes = 0.0 if given is None else len(given) * unit_s
            if comes and waits + comes > MAX_BACKLOG_SECONDS:
                raise ValueError(
                    f"{name} for {comes:.2f} s came while {waits:.2f} s wait for their turn, at "
                    f"most {MAX_BACKLOG_SECONDS} s may wait; send no faster than answers come"
                )

    def _take_features(self, features: Array) -> None:
        per_block = self.config.video_frames_per_block
        for start in range(0, features.shape[3], per_block):
            block = np.ascontiguousarray(features[..., start : start + per_block])
            self.given_features.append(GivenFeatures(audio_features=block, num_frames=per_block))
            self.num_feature_blocks += 1

    def next_sound(self) -> Sound | None:
        """What the next block hears, if it is here and none is under way."""
        if self.phase.is_closing or self.encoding or len(self.ready) > 1:
            return None
        if self.uses_features:
            return self.given_features.popleft() if self.given_features else None
        windows = [window for voice in self.voices if (window := voice.next_window()) is not None]
        return tuple(windows) or None

    def next_pose(self) -> tuple[int, Array] | None:
        """The block whose frames are to be encoded now, if any."""
        if self.phase.is_closing or not self.phase.is_started:
            return None
        return self.pose.next_frames(self.next_block)

    def has_work(self) -> bool:
        return bool(self.ready)

    @property
    def is_live(self) -> bool:
        return bool(self.request.options.live)

    def frame_index(self, block: int) -> int:
        """Index of a block's first frame in the stream."""
        first = block * self.config.video_frames_per_block
        return max(0, first - self.request.options.drop_first_frames)

    def enter(self) -> Entry:
        """The next block, which enters stage 0 now."""
        if self.newest is None or self.newest.block != self.next_block:
            block = self.next_block
            noise, distance = self.noise(block), self.sink_distance(block)
            self.newest = Entry(block=block, noise=noise, sink_distance=distance, pose=None)
        if (pose := self.pose.latents.pop(self.next_block, None)) is not None:
            self.newest = replace(self.newest, pose=pose)
        self.next_block += 1
        self.next_tick += 1
        return self.newest

    def can_dispatch(self) -> bool:
        if not self.phase.is_started or not self.ready or not self.pose.is_ready(self.next_block):
            return False
        waits = self.request.options.recalibrate and self.recalibrated is None
        return not (waits and self.next_block >= self.config.recalibrate_block)

    def noise(self, block: int) -> Array:
        """Step 0's input [1, C, F, h, w]."""
        if self.given_noise:
            return self.given_noise.popleft()[None]
        return block_noise(self.request.seed, block, self.config.latent_shape)

    def sink_distance(self, block: int) -> Array:
        """int64 [num_steps]."""
        if self.given_distance:
            return self.given_distance.popleft()
        c, fixed = self.config, self.request.options.sink_distance
        if fixed is not None:
            return np.full(c.num_steps, fixed, np.int64)
        return seeded_sink_distance(
            self.request.seed, block, c.num_steps, c.sink_distance_min, c.sink_distance_max
        )

    def sink_reference(self, block: int) -> Array | None:
        """What the sink is re-calibrated with before `block`, or None."""
        due = block == self.config.recalibrate_block and self.request.options.recalibrate
        return self.recalibrated if due else None

    def take_ring_start(self, block: int) -> Array | None:
        """Where each step's ring begins, if the stages have to be told with `block`, which enters
        now. A degraded session's last step is left out: its ring begins behind the block."""
        was, self.ring_start = self.ring_start, np.minimum(self.ring_start, block)
        if self.reanchors:
            self.ring_start[:], self.reanchors = block, False
        if self.is_degraded:
            self.ring_start[-1] = block + 1
        is_news = self.is_degraded or not np.array_equal(was, self.ring_start)
        return self.ring_start.copy() if is_news else None
