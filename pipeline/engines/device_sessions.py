"""The sessions of one device, every session's blocks in order.

The orchestrator keeps one block queued ahead, sent by a second thread, so tick n + 1 may arrive a
moment before tick n. It is refused with `OutOfOrder`, and its sender tries again.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from pipeline.engines.base import Array

logger = logging.getLogger(__name__)

NOT_OPEN = "is not open here"


class OutOfOrder(RuntimeError):  # noqa: N818 - a moment too early is no error
    """A block has overtaken the one before it; nothing was done."""

    MARK = "out of order"
    """How its message begins, by which it is known behind a process's border."""


class Device(Protocol):
    """A `Stage` or a `Decoder`: what is called for its sessions, tensors by name."""

    @property
    def open(self) -> Callable[..., None]:
        """open(session, **tensors)"""

    @property
    def step(self) -> Callable[..., Any]:
        """step(session, block or tick, **tensors)"""

    @property
    def close(self) -> Callable[[int], None]:
        """close(session)"""

    @property
    def cache_bytes(self) -> int:
        """Memory that open sessions have there."""


class DeviceSessions:
    """Owns `device`: nobody else may call it. Any thread may call; one at a time gets to it.

    A device reuses its output memory, so with `copies` an answer is a copy; without, it is valid
    until the next call.
    """

    def __init__(
        self, device: Device, name: str, max_sessions: int, *, copies: bool = False
    ) -> None:
        self.device = device
        self.name = name
        self.max_sessions = max_sessions
        self._copies = copies
        self._lock = threading.Lock()
        self._next_tick: dict[int, int] = {}

    def open(self, session: int, tensors: dict[str, Any], tick: int = 0) -> None:
        """Open `session`, whose first step is number `tick`."""
        with self._lock:
            if session in self._next_tick:
                raise RuntimeError(f"{self.name}: session {session} is open already")
            if len(self._next_tick) >= self.max_sessions:
                raise RuntimeError(f"{self.name}: all {self.max_sessions} sessions are in use")
            try:
                self.device.open(session, **tensors)
            except BaseException:
                logger.exception("%s: session %d failed", self.name, session)
                self.device.close(session)
                raise
            self._next_tick[session] = tick

    def step(self, session: int, tick: int, tensors: dict[str, Any]) -> Array | None:
        """Run what is number `tick` of `session`, from 0; OutOfOrder if its predecessor has not
        come yet. `tensors` name the `block` where that is another number: one may be made again."""
        with self._lock:
            return self._step(session, tick, tensors)

    def step_and_read(
        self, session: int, tick: int, tensors: dict[str, Any], what: str
    ) -> tuple[Array | None, Array]:
        """`step`, and what the device holds of `session` after it: its method `what` says."""
        with self._lock:
            made = self._step(session, tick, tensors)
            return made, getattr(self.device, what)(session)

    def close(self, session: int) -> None:
        """Close `session`, open or not."""
        with self._lock:
            self._close(session)

    def close_all(self) -> None:
        """Close every session: whoever opened them is gone, or the model ends."""
        with self._lock:
            for session in list(self._next_tick):
                self._close(session)

    def _step(self, session: int, tick: int, tensors: dict[str, Any]) -> Array | None:
        if (wanted := self._next_tick.get(session)) is None:
            raise RuntimeError(f"{self.name}: session {session} {NOT_OPEN}")
        if tick < wanted:
            raise RuntimeError(f"{self.name}: tick {tick} of session {session} came twice")
        if tick > wanted:
            raise OutOfOrder(f"{OutOfOrder.MARK}: tick {tick} came before tick {wanted}")
        self._next_tick[session] = tick + 1
        block = tensors.pop("block", None)
        number = tick if block is None else int(block[0])
        try:
            result: Array | None = self.device.step(session, number, **tensors)
        except Exception:
            logger.exception("%s: session %d failed", self.name, session)
            raise
        return result.copy() if self._copies and result is not None else result

    def _close(self, session: int) -> None:
        self._next_tick.pop(session, None)
        try:
            self.device.close(session)
        except Exception:
            logger.exception("%s: session %d failed", self.name, session)
            raise
