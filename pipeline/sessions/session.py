"""The requests of one session and the blocks that answer them, whatever makes the blocks.

Touched by the orchestrator's control thread alone, so it has no locks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


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
    """float32: total, queued, then the models' (docs/protocol.md)."""


class Reply(Protocol):
    """Where the answers of one request go. `finish` or `fail` ends it, once."""

    @property
    def is_held(self) -> bool:
        """Whether a START shall stay open until its session ends."""

    def send(self, block: BlockFrames) -> None: ...
    def finish(self) -> None: ...
    def fail(self, message: str) -> None: ...
    def cancelled(self) -> bool: ...


@dataclass(slots=True)
class OpenRequest:
    """A request that isn't final yet: it waits for the blocks before `blocks_due`."""

    reply: Reply
    blocks_due: int


@dataclass(slots=True, eq=False, kw_only=True)
class Answering:
    """A session from START to its last answer. `eq=False`: it is itself, whatever it holds."""

    last_seen: float
    starting: bool = True
    """Conditioning is under way; a session that fails meanwhile closes when it is done."""
    started: bool = False
    """Conditioning is done and every model holds the session."""
    closing: bool = False
    failed: str | None = None
    refused_start: str | None = None
    """What the last START heard that came for its id when it had ended."""
    ended: bool = False
    """END has come."""
    in_flight: int = 0
    """Pieces of its work that are with a model or queued there."""
    next_delivery: int = 0
    requests: deque[OpenRequest] = field(default_factory=deque)
    held: Reply | None = None
    """START's, where its client asked to hold it open until the session ends."""
    finished: dict[int, BlockFrames] = field(default_factory=dict)
    """Decoded blocks that wait for their predecessors' delivery."""

    @property
    def id(self) -> int:
        raise AssertionError("every kind of session has its own")

    @property
    def blocks_known(self) -> int:
        """Blocks that the requests so far are due."""
        raise AssertionError("every kind of session has its own")

    def take(self, request: Any, now: float) -> None:
        """Append what a request brings; ValueError or RuntimeError if it can't be."""
        raise AssertionError("every kind of session has its own")

    def has_work(self) -> bool:
        """Whether input waits for its turn."""
        raise AssertionError("every kind of session has its own")

    def can_dispatch(self) -> bool:
        """Whether its next piece of work has all it needs."""
        raise AssertionError("every kind of session has its own")

    def forget_conditions(self) -> None:
        """Let go of what START carried, once the models have it."""
        raise AssertionError("every kind of session has its own")

    def deliver(self, done: BlockFrames) -> None:
        """Answer with every block whose turn it is; requests that are complete become final."""
        self.finished[done.block] = done
        while self.next_delivery in self.finished:
            block = self.finished.pop(self.next_delivery)
            reply = self.requests[0].reply if self.requests else self.held
            assert reply is not None, "a block nobody waits for"
            if len(block.frames):
                reply.send(block)
            self.next_delivery += 1
            self.finish_requests()

    def finish_requests(self) -> None:
        """Make complete requests final; END's stays open until the session is closed.

        So does a cancelled one, by which the orchestrator sees that the client is gone.
        """
        while self.started and self.requests:
            first = self.requests[0]
            last = self.ended and len(self.requests) == 1
            if first.blocks_due > self.next_delivery or last:
                return
            if self.held is None and first.reply.cancelled():
                return
            self.requests.popleft().reply.finish()

    def is_abandoned(self) -> bool:
        """Whether a request is open and its client is gone."""
        if self.held is not None:
            return self.held.cancelled()
        # One stands for all: a client that goes takes its whole stream along.
        return bool(self.requests) and self.requests[0].reply.cancelled()

    def is_idle(self) -> bool:
        """Whether it waits for its client, who is owed nothing."""
        return self.started and not self.requests and self.next_delivery >= self.blocks_known

    def take_replies(self) -> list[Reply]:
        """Of every request that isn't final, in the order in which they will be.

        The session lets go of them: a request counts as open as long as somebody has its reply.
        """
        replies = [open_request.reply for open_request in self.requests]
        if self.held is not None:
            replies.append(self.held)
        self.requests.clear()
        self.held = None
        return replies

    def is_complete(self) -> bool:
        """END has come and every block is delivered."""
        return self.started and self.ended and self.next_delivery >= self.blocks_known
