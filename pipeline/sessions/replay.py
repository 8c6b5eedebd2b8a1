"""Sessions outlive the death of a model's process: what it did for them is done again.

The last inputs of every session at every model that holds it are kept here. When such a model is
lost and has come back empty, the session is opened there anew, and the kept inputs are run again.
Where its memory is kept instead, nothing is.
Models that hold nothing are simply asked again. (docs/operations.md, Replay)
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar

from pipeline.engines.base import Array, Arrays
from pipeline.sessions.calls import Calls, ModelLost
from pipeline.sessions.kept import Kept, copied

logger = logging.getLogger(__name__)
T = TypeVar("T")
Keeps = Mapping[str, Callable[[Arrays], Kept]]
"""Model that holds sessions -> what is kept of one there, which its opening begins."""

RECOVERY_S = 20.0
"""So long a model may be away before its sessions fail."""
POLL_S = 0.02
OPEN_POLL_S = 0.25  # the models that are there compute something each time
MAX_TRIES = 3  # deaths that one step outlives


class ReplayedCalls:
    """`Calls` that outlive their models."""

    def __init__(self, calls: Calls, keeps: Keeps) -> None:
        self.calls, self.keeps = calls, keeps
        self._lock = threading.Lock()  # guards what is kept
        self._kept: dict[tuple[str, int], Kept] = {}
        self.replays: Counter[str] = Counter()
        """Model -> how often a session was brought back there."""
        self._recovering = {model: threading.Lock() for model in keeps}

    @property
    def bytes_kept(self) -> int:
        """Memory of what is kept of all sessions."""
        with self._lock:
            return sum(kept.num_bytes for kept in self._kept.values())

    def ready(self) -> None:
        self.calls.ready()

    def is_loaded(self, model: str) -> bool:
        return self.calls.is_loaded(model)

    def call(self, model: str, inputs: Arrays, outputs: list[str]) -> Arrays:
        return _patiently(lambda: self.calls.call(model, inputs, outputs))

    def open(self, session: int, tensors: Mapping[str, Arrays]) -> None:
        kept = {model: keep(copied(tensors[model])) for model, keep in self.keeps.items()}
        opening = {**tensors, **{model: new.opening for model, new in kept.items()}}
        _patiently(lambda: self._open(session, opening), poll_s=OPEN_POLL_S)
        with self._lock:
            self._kept |= {(model, session): new for model, new in kept.items()}

    def _open(self, session: int, tensors: Mapping[str, Arrays]) -> None:
        try:
            self.calls.open(session, tensors)
        except ModelLost as lost:
            logger.warning("session %d can't start yet: %s", session, lost)
            self.calls.close(session)  # where it is open already
            raise

    def step(self, model: str, session: int, tick: int, inputs: Arrays) -> Array | None:
        return self._kept_step(model, session, tick, inputs, None)[0]

    def step_and_read(
        self, model: str, session: int, tick: int, inputs: Arrays, what: str
    ) -> tuple[Array | None, Array]:
        made, held = self._kept_step(model, session, tick, inputs, what)
        assert held is not None, f"{model} was asked for {what} and gave nothing"
        return made, held

    def _kept_step(
        self, model: str, session: int, tick: int, inputs: Arrays, what: str | None
    ) -> tuple[Array | None, Array | None]:
        """What the step makes, and what was to be read after it, if anything."""

        def step() -> tuple[Array | None, Array | None]:
            if read is None:
                return self.calls.step(model, session, tick, inputs), None
            return self.calls.step_and_read(model, session, tick, inputs, read)

        made: Array | None = None
        while True:
            with self._lock:
                kept = self._kept.get((model, session))
            read = what if kept is None or kept.reads is None else kept.reads
            (latest, held), begun = self._surviving(model, session, step)
            made = made if latest is None else latest
            with self._lock:
                kept = self._kept.get((model, session))
                if kept is None:
                    return made, held
                if kept.begun == begun:
                    read_too = {} if kept.reads is None or held is None else {kept.reads: held}
                    kept.add(tick, copied({**inputs, **read_too}))
                    return made, held
                inputs = kept.missed(inputs)
            # It was brought back in between, without this step.

    def reopen(self, model: str, session: int, tensors: Arrays, tick: int) -> None:
        self.calls.reopen(model, session, tensors, tick)

    def close(self, session: int) -> None:
        with self._lock:
            for model in self.keeps:
                self._kept.pop((model, session), None)
        for model in self.keeps:  # who brings it back there would take a place that is given away
            with self._recovering[model]:
                pass
        self.calls.close(session)

    def stop(self) -> None:
        self.calls.stop()

    def _surviving(self, model: str, session: int, call: Callable[[], T]) -> tuple[T, int]:
        """The result of a call that outlives deaths of its model, and how many recoveries of the
        session had begun there when it was made."""
        for is_last in (*[False] * MAX_TRIES, True):
            with self._lock:
                kept = self._kept.get((model, session))
                begun, done = (kept.begun, kept.done) if kept else (0, 0)
            try:
                return call(), begun
            except ModelLost as lost:
                if is_last or kept is None:
                    raise
                self._recover(model, session, done, lost)
        raise AssertionError("the last try returns or raises")

    def _recover(self, model: str, session: int, done: int, lost: ModelLost) -> None:
        """Have the model hold the session as before; `lost` if that can't be. `done`: recoveries
        before the call that failed; one that was done since has mended it."""
        with self._recovering[model]:
            with self._lock:
                kept = self._kept.get((model, session))
                if kept is None:
                    raise lost
                if kept.done > done:
                    return
                kept.begun += 1  # who calls from now on reaches the new process
                (opening, first), history = kept.returning(), kept.history()
            began_s = time.monotonic()
            _patiently(lambda: self.calls.reopen(model, session, opening, first), lost)
            try:
                for tick, inputs in history:
                    self.calls.step(model, session, tick, inputs)
            except ModelLost:
                return  # dead again: the step that waits finds out, and begins anew
            with self._lock:
                kept.done += 1
                self.replays[model] += 1
                is_closed = (model, session) not in self._kept
            if is_closed:  # meanwhile: what was just opened would stay
                self.calls.close(session)
                raise lost
            logger.warning(
                "%s: session %d is back after %.2f s, %d blocks were made again",
                *(model, session, time.monotonic() - began_s, len(history)),
            )


def _patiently(call: Callable[[], T], lost: ModelLost | None = None, poll_s: float = POLL_S) -> T:
    """The result of a call that is made again while its model is away."""
    give_up_s = time.monotonic() + RECOVERY_S
    while True:
        try:
            return call()
        except ModelLost as error:
            if time.monotonic() > give_up_s:
                raise lost or error from None
        time.sleep(poll_s)
