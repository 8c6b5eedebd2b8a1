"""One session of a public model: its phase, its requests, and the blocks that answer them.

Touched by the orchestrator's control thread alone, so it has no locks.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, ClassVar, Protocol

import numpy as np

from pipeline.engines.base import Array
from pipeline.sessions.drift import Drift
from pipeline.sessions.playback import Playback


class Phase(Enum):
    """Where a session stands between START and its last answer; `MOVES` says what may follow."""

    STARTING = auto()
    """The models condition on what START brought, and open it."""
    STARTING_ENDED = auto()
    """The same, and END has come already."""
    OPEN = auto()
    """Every model holds it; more input may come."""
    ENDED = auto()
    """END has come; the blocks that are due are being made."""
    LEAVING = auto()
    """It has failed while the models open it; it is freed when they are done."""
    CLOSING = auto()
    """The models free it; then its last requests become final."""

    @property
    def is_started(self) -> bool:
        """Whether every model holds it and may work on it."""
        return self in (Phase.OPEN, Phase.ENDED)

    @property
    def takes_input(self) -> bool:
        """Whether more requests may come."""
        return self in (Phase.STARTING, Phase.OPEN)

    @property
    def is_closing(self) -> bool:
        """Whether nobody waits for its blocks any more."""
        return self in (Phase.LEAVING, Phase.CLOSING)


MOVES = {
    Phase.STARTING: {Phase.STARTING_ENDED, Phase.OPEN, Phase.LEAVING},
    Phase.STARTING_ENDED: {Phase.ENDED, Phase.LEAVING},
    Phase.OPEN: {Phase.ENDED, Phase.CLOSING},
    Phase.ENDED: {Phase.CLOSING},
    Phase.LEAVING: {Phase.CLOSING},
    Phase.CLOSING: set(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFrames:
    """One answered block."""

    block: int
    frame_index: int  # index of frames[0] in the stream
    frames: Array  # uint8 RGB [T, H, W, 3]
    latent: Array  # final latent float32 [1, C, F, h, w]
    timings_ms: Array  # float32: total, queued, then the models' (docs/protocol.md)
    generation: int = 0  # interruptions before its sound came

    def outputs(self) -> dict[str, Array]:
        """As they travel, by name."""
        return {
            "frames": self.frames,
            "frame_index": np.array([self.frame_index], np.int64),
            "block": np.array([self.block], np.int64),
            "generation": np.array([self.generation], np.int64),
            "timings_ms": self.timings_ms,
            "latent": self.latent,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The answer to an interruption, at once."""

    generation: int  # that of the sound which comes now
    frame_index: int  # the first frame of that sound
    block: int  # the block that begins there

    def outputs(self) -> dict[str, Array]:
        """As they travel, by name."""
        return {
            "frame_index": np.array([self.frame_index], np.int64),
            "block": np.array([self.block], np.int64),
            "generation": np.array([self.generation], np.int64),
        }


Answer = BlockFrames | Interrupted


class Reply(Protocol):
    """Where the answers of one request go. `finish` or `fail` ends it, once."""

    @property
    def is_held(self) -> bool:
        """Whether a START shall stay open until its session ends."""

    @property
    def traceparent(self) -> str | None:
        """The request's place in its trace (W3C Trace Context); None if it is not traced."""

    def send(self, answer: Answer) -> None: ...
    def finish(self) -> None: ...
    def fail(self, message: str) -> None: ...
    def cancelled(self) -> bool: ...


@dataclass(slots=True)
class OpenRequest:
    """A request that isn't final yet: it waits for the blocks before `blocks_due`."""

    reply: Reply
    blocks_due: int
    came_s: float = field(default_factory=time.monotonic)


@dataclass(slots=True, eq=False, kw_only=True)
class ServedSession(ABC):
    """A session from START to its last answer. `eq=False`: it is itself, whatever it holds."""

    CONDITIONS: ClassVar[tuple[str, ...]]
    """Fields of START's request that only the models need; a picture may be large."""

    request: Any  # the START request
    last_seen: float
    phase: Phase = Phase.STARTING
    started_s: float = field(default_factory=time.monotonic)
    first_frame_s: float | None = None  # from then to the first block's answer
    failed: str | None = None
    counts_as: str = "ended"
    """The field of `Counts` that its end goes to."""
    refused_start: str | None = None
    """What the last START heard that came for its id when it had ended."""
    acknowledged: int | None = None
    """Blocks that its client says it has read; None: it never said."""
    in_flight: int = 0  # pieces of its work that are with a model or queued there
    next_delivery: int = 0
    requests: deque[OpenRequest] = field(default_factory=deque)
    held: Reply | None = None
    """START's, where its client asked to hold it open until the session ends."""
    drift: Drift | None = None  # None: it is not watched
    finished: dict[int, BlockFrames] = field(default_factory=dict)
    """Decoded blocks that wait for their predecessors' delivery."""
    playback: Playback = field(default_factory=Playback)
    num_late: int = 0  # blocks for which the viewer had to wait

    @property
    def id(self) -> int:
        """The correlation id of its requests."""
        return int(self.request.session)

    @property
    @abstractmethod
    def block_s(self) -> float:
        """Seconds of video in a block."""

    @property
    @abstractmethod
    def blocks_known(self) -> int:
        """Blocks that the requests so far are due."""

    @property
    @abstractmethod
    def fps(self) -> float:
        """Frames per second of its video."""

    @property
    def blocks_owed(self) -> int:
        """Blocks that are due and not answered yet."""
        return self.blocks_known - self.next_delivery

    @abstractmethod
    def take(self, request: Any) -> Interrupted | None:
        """Append what a request brings; what it is to be answered with at once, if anything.
        ValueError or RuntimeError if it can't be taken; then nothing has changed."""

    @abstractmethod
    def has_work(self) -> bool:
        """Whether input waits for its turn."""

    def can_dispatch(self) -> bool:
        """Whether its next piece of work has all it needs."""
        return self.has_work()

    @property
    def num_unread(self) -> int:
        """Answered blocks that a client which acknowledges has not received."""
        return 0 if self.acknowledged is None else self.next_delivery - self.acknowledged

    def has_room(self, now_s: float, unread_blocks: int) -> bool:
        """Whether one more block may begin without more than `unread_blocks` that nobody has read:
        they are in the server's memory. A client that can't say what it has read, or never does, is
        taken to read at real time."""
        read = float(self.acknowledged or 0)
        if self.acknowledged is None or not self.phase.takes_input:
            read = max(read, (now_s - self.started_s) / self.block_s)
        begun = self.next_delivery + len(self.finished) + self.in_flight
        return begun < read + unread_blocks

    @property
    def is_live(self) -> bool:
        """Whether somebody waits for each of its blocks: it goes before those that don't."""
        return False

    @property
    def traceparent(self) -> str | None:
        """Of the request that the next block answers."""
        reply = self.requests[0].reply if self.requests else self.held
        return None if reply is None else reply.traceparent

    def withdraw(self, block: int) -> None:
        """Nobody waits for `block` and those behind it any more, as they were."""
        self.playback.restart()
        self.next_delivery = min(self.next_delivery, block)
        self.finished = {number: done for number, done in self.finished.items() if number < block}
        for waiting in self.requests:
            waiting.blocks_due = min(waiting.blocks_due, block)

    def forget_conditions(self) -> None:
        """Let go of what START carried, once the models have it."""
        self.request = replace(self.request, **dict.fromkeys(self.CONDITIONS))

    def move(self, phase: Phase) -> None:
        """Go on to `phase`; RuntimeError if that can't follow."""
        if phase not in MOVES[self.phase]:
            raise RuntimeError(f"session {self.id} can't go from {self.phase.name} to {phase.name}")
        self.phase = phase

    def end(self) -> None:
        """END has come."""
        is_starting = self.phase is Phase.STARTING
        self.move(Phase.STARTING_ENDED if is_starting else Phase.ENDED)

    def start(self) -> None:
        """Every model holds it now."""
        self.move(Phase.ENDED if self.phase is Phase.STARTING_ENDED else Phase.OPEN)

    def deliver(self, done: BlockFrames) -> None:
        """Answer with every block whose turn it is; requests that are complete become final."""
        self.finished[done.block] = done
        while self.next_delivery in self.finished:
            block = self.finished.pop(self.next_delivery)
            reply = self.requests[0].reply if self.requests else self.held
            assert reply is not None, "a block nobody waits for"
            if len(block.frames):
                self._play(block)
                reply.send(block)
            self.next_delivery += 1
            self.finish_requests()

    def _play(self, block: BlockFrames) -> None:
        now_s = time.monotonic()
        came_s = self.requests[0].came_s if self.requests else now_s
        self.num_late += self.playback.shows(len(block.frames) / self.fps, came_s, now_s)

    def finish_requests(self) -> None:
        """Make complete requests final. END's stays open until the session is closed; so do those
        of a client that is gone, by which the orchestrator sees it."""
        is_there = self.held is not None
        while self.phase.is_started and self.requests:
            first = self.requests[0]
            last = self.phase is Phase.ENDED and len(self.requests) == 1
            if first.blocks_due > self.next_delivery or last:
                return
            if not is_there and first.reply.cancelled():
                return
            is_there = True  # one stands for all, and to ask takes as long as to answer
            self.requests.popleft().reply.finish()

    def is_abandoned(self) -> bool:
        """Whether a request is open and its client is gone."""
        if self.held is not None:
            return self.held.cancelled()
        # One stands for all: a client that goes takes its whole stream along.
        return bool(self.requests) and self.requests[0].reply.cancelled()

    def is_idle(self) -> bool:
        """Whether it waits for its client, who is owed nothing."""
        owed = bool(self.requests) or self.next_delivery < self.blocks_known
        return self.phase.is_started and not owed

    def is_complete(self) -> bool:
        """END has come and every block is delivered."""
        return self.phase is Phase.ENDED and self.next_delivery >= self.blocks_known

    def take_replies(self) -> list[Reply]:
        """Of every request that isn't final, in the order in which they will be. The session lets
        go of them: a request counts as open as long as somebody has its reply."""
        replies = [open_request.reply for open_request in self.requests]
        if self.held is not None:
            replies.append(self.held)
        self.requests.clear()
        self.held = None
        return replies
