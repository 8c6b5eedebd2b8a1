"""What waits at a stage: a session's blocks come out in order, whoever brought them first."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from pipeline.avatar.session import BlockInput, Session
from pipeline.sessions.session import Answering


@dataclass(slots=True, kw_only=True)
class Work:
    """A block on its way through the stages."""

    session: Session
    block: int
    input: BlockInput
    latent: np.ndarray
    sink_distance: np.ndarray
    reference: np.ndarray | None
    wait_ms: float
    stage_ms: list[float] = field(default_factory=list)


class Queued(Protocol):
    """A block of a session, in whatever a pipeline hands on."""

    @property
    def session(self) -> Answering: ...
    @property
    def block(self) -> int: ...


W = TypeVar("W", bound=Queued)


class Inbox(Generic[W]):
    """A stage's queue; `put` and `get` may be called from any thread.

    Two lanes bring blocks from the stage before. If one is held up with block n while the other
    goes on, blocks n + 1 and n + 2 would occupy both lanes of this stage and wait there, in the
    stage's worker, for a block n that no lane is left to take.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[W | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards the two below
        self._next: dict[Answering, int] = {}
        self._early: dict[Answering, dict[int, W]] = {}

    def put(self, work: W) -> None:
        """Queue a block behind its predecessors; a closing session's has none to wait for."""
        with self._lock:
            if work.session.closing:
                self._queue.put(work)
                return
            early = self._early.setdefault(work.session, {})
            early[work.block] = work
            while (turn := early.pop(self._next.get(work.session, 0), None)) is not None:
                self._next[work.session] = turn.block + 1
                self._queue.put(turn)

    def get(self) -> W | None:
        """The next block, when it is there; None after `end`."""
        return self._queue.get()

    def forget(self, session: Answering) -> None:
        """Drop what is known of a closed session."""
        with self._lock:
            self._next.pop(session, None)
            self._early.pop(session, None)

    def end(self) -> None:
        """Let one reader go home."""
        self._queue.put(None)
