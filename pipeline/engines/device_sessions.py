"""One thread that serves the sessions of one device, every session's blocks in order.

The orchestrator keeps one block queued ahead, sent by a second thread, so block n + 1 may arrive a
moment before block n. It is parked until its turn. (spec/triton 4)
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

logger = logging.getLogger(__name__)

Done = Callable[[Any], None]
"""Called once, on the worker's thread, with the result or the exception of a call."""


class Device(Protocol):
    """A `Stage` or a `Decoder`: what the worker's thread calls, tensors by name."""

    @property
    def open(self) -> Callable[..., None]:
        """open(session, **tensors)"""

    @property
    def step(self) -> Callable[..., Any]:
        """step(session, block, **tensors)"""

    @property
    def close(self) -> Callable[[int], None]:
        """close(session)"""


@dataclass(slots=True)
class _Open:
    """A session's place in the order."""

    next_block: int = 0
    parked: dict[int, tuple[dict[str, Any], Done]] = field(default_factory=dict)


class SessionWorker:
    """Owns `device`: nobody else may call it while the worker lives."""

    def __init__(self, device: Device, name: str, max_sessions: int) -> None:
        self.device = device
        self.name = name
        self.max_sessions = max_sessions
        self._open: dict[int, _Open] = {}
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def open(self, session: int, tensors: dict[str, Any], done: Done) -> None:
        """Open `session`; `done(None)` follows, or `done(exception)`."""
        self._calls.put(lambda: self._answer(done, self._open_now, session, tensors))

    def step(self, session: int, block: int, tensors: dict[str, Any], done: Done) -> None:
        """Run `block` of `session` after its predecessors; `done(result)` follows."""
        self._calls.put(lambda: self._step_now(session, block, tensors, done))

    def close(self, session: int, done: Done) -> None:
        """Close `session`, open or not; blocks that still wait for their turn get an error."""
        self._calls.put(lambda: self._answer(done, self._close_now, session))

    def close_all(self, done: Done) -> None:
        """Close every session: whoever opened them is gone."""
        self._calls.put(lambda: self._answer(done, self._close_all_now))

    def next_block(self, session: int) -> int | None:
        """The block whose turn it is once all calls are answered; None if it isn't open."""
        state = self._open.get(session)
        return None if state is None else state.next_block

    def stop(self) -> None:
        """End the thread after the calls that are queued, and close every session."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception:  # of a `done`: the caller is out of reach, the others are not
                logger.exception("%s could not answer", self.name)
        self._close_all_now()

    def _answer(self, done: Done, call: Callable[..., Any], *args: Any) -> None:
        try:
            result = call(*args)
        except Exception as error:
            logger.exception("%s failed", self.name)
            result = error
        done(result)

    def _open_now(self, session: int, tensors: dict[str, Any]) -> None:
        if session in self._open:
            raise RuntimeError(f"{self.name}: session {session} is open already")
        if len(self._open) >= self.max_sessions:
            raise RuntimeError(f"{self.name}: all {self.max_sessions} sessions are in use")
        try:
            self.device.open(session, **tensors)
        except BaseException:
            self.device.close(session)
            raise
        self._open[session] = _Open()

    def _step_now(self, session: int, block: int, tensors: dict[str, Any], done: Done) -> None:
        state = self._open.get(session)
        if state is None:
            done(RuntimeError(f"{self.name}: session {session} is not open here"))
            return
        if block < state.next_block or block in state.parked:
            done(RuntimeError(f"{self.name}: block {block} of session {session} came twice"))
            return
        state.parked[block] = (tensors, done)
        while state.next_block in state.parked:
            tensors, done = state.parked.pop(state.next_block)
            number = state.next_block
            state.next_block += 1
            self._answer(done, lambda t=tensors, n=number: self.device.step(session, n, **t))

    def _close_all_now(self) -> None:
        for session in list(self._open):
            self._close_now(session)

    def _close_now(self, session: int) -> None:
        state = self._open.pop(session, _Open())
        self.device.close(session)
        for block, (_, done) in state.parked.items():
            done(RuntimeError(f"{self.name}: session {session} closed before block {block}"))
