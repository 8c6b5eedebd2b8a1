"""One text-to-video stream as the orchestrator sees it: blocks asked for, ticks due.

    blocks asked for    0 1 2 3 | 4 5          a request asks for 4 blocks, the next for 2
    their ticks     0 … 4 5 6 7 | 8 9          block b is finished by tick b + latency

What comes with a request (a prompt, the end) holds from its first block's tick on. So no block
depends on when a request arrives, nor on those after it.
"""

from collections import deque
from dataclasses import dataclass, field

from pipeline.config.rolling import RollingConfig
from pipeline.engines.base import Array
from pipeline.rolling.request import RollingRequest
from pipeline.sessions.session import ServedSession

MAX_BACKLOG_BLOCKS = 256
"""Blocks whose given noise may wait in a session for their turn."""


@dataclass(slots=True, kw_only=True)
class Change:
    """What a tick brings besides itself."""

    prompt: str | None = None
    text: Array | None = None
    num_blocks: int | None = None  # length of the stream, known from now on
    noise: Array | None = None  # [levels, C, F, h, w] of the block that enters


@dataclass(slots=True, eq=False, kw_only=True)
class RollingSession(ServedSession):
    """State of one stream."""

    CONDITIONS = ("text", "noise")

    request: RollingRequest
    config: RollingConfig  # the rules it runs under
    next_tick: int = 0
    asked: int = 0  # blocks that requests have asked for
    given_noise: deque[Array] = field(default_factory=deque)
    changes: dict[int, Change] = field(default_factory=dict)  # by tick

    def __post_init__(self) -> None:
        if self.length is not None:
            self.changes[0] = Change(num_blocks=self.length)

    @property
    def block_s(self) -> float:
        return self.config.video_frames_per_block / self.config.fps

    @property
    def blocks_known(self) -> int:
        return self.asked

    @property
    def fps(self) -> float:
        return self.config.fps

    @property
    def length(self) -> int | None:
        """Blocks of the stream if START said so."""
        frames = self.request.options.num_frames
        return None if frames is None else self.config.blocks_of(frames)

    @property
    def latency(self) -> int:
        """Ticks from a block's first to its last."""
        return self.config.window_blocks - 1

    def take(self, request: RollingRequest) -> None:
        self._check(request)
        tick = self.asked + self.latency if self.asked else 0
        if request.has_prompt and not request.start:
            change = self.changes.setdefault(tick, Change())
            change.prompt, change.text = request.prompt, request.text
        if request.noise is not None:
            self.given_noise.extend(request.noise)
        self.asked += request.num_blocks or 0
        if not request.end:
            return
        self.end()
        if request.num_blocks is None:  # all that is left: known, or in flight
            in_flight = self.latency if self.asked else 0
            self.asked = self.length if self.length is not None else self.asked + in_flight
        if self.asked != self.length:
            self.changes.setdefault(tick, Change()).num_blocks = self.asked

    def _check(self, request: RollingRequest) -> None:
        if self.length is not None and (request.num_blocks or 0) > self.length - self.asked:
            raise ValueError(
                f"num_blocks is {request.num_blocks}, but {self.length - self.asked} of the "
                f"stream's {self.length} blocks are left"
            )
        if request.start and request.end and self.length is request.num_blocks is None:
            raise ValueError(
                "START came with END but without a length; wanted num_blocks, or blocks or seconds "
                "in options"
            )
        noise, levels = request.noise, self.config.num_levels
        if noise is not None and noise.shape[1] != levels:
            raise ValueError(f"noise has {noise.shape[1]} levels, these rules have {levels}")
        if noise is not None and len(self.given_noise) + len(noise) > MAX_BACKLOG_BLOCKS:
            raise ValueError(
                f"noise of {len(noise)} blocks came while that of {len(self.given_noise)} waits, "
                f"at most {MAX_BACKLOG_BLOCKS} may wait; send no faster than answers come"
            )

    def has_work(self) -> bool:
        """Whether somebody waits for the next tick."""
        due = self.asked + self.latency if self.asked else 0
        return self.phase.is_started and self.next_tick < due

    def begin_tick(self) -> tuple[int, Change]:
        """The next tick and what it brings."""
        tick = self.next_tick
        self.next_tick += 1
        change = self.changes.pop(tick, None) or Change()
        if self.given_noise:
            change.noise = self.given_noise.popleft()
        return tick, change

    def frame_index(self, block: int) -> int:
        """Index of a block's first frame in the stream."""
        return self.config.video_frames(block)

    def shown(self, block: int, frames: Array) -> Array:
        """A block's frames [T, H, W, 3] without those behind the stream's last."""
        last = self.request.options.num_frames
        return frames if last is None else frames[: max(0, last - self.frame_index(block))]
