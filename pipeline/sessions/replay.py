"""Sessions outlive the death of a model's process: what it did for them is done again.

The last inputs of every session at every model that holds it are kept here. When such a model is
lost and has come back empty, the session is opened there anew, and the kept inputs are run again.
Models that hold nothing are simply asked again. (docs/operations.md, Replay)
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from pipeline.engines.base import Array, Arrays
from pipeline.sessions.calls import Calls, ModelLost

logger = logging.getLogger(__name__)
T = TypeVar("T")

RECOVERY_S = 20.0
"""So long a model may be away before its sessions fail."""
POLL_S = 0.02
MAX_TRIES = 3  # deaths that one step outlives
LASTING = ("reference", "text", "sink")
"""Inputs of a step that hold for those after it."""


@dataclass(slots=True)
class Kept:
    """One session at one model."""

    opening: Arrays
    steps: dict[int, Arrays] = field(default_factory=dict)  # tick -> inputs, of steps that are done
    lasting: dict[str, Array] = field(default_factory=dict)  # from steps that are kept no more
    begun: int = 0  # recoveries
    done: int = 0

    def add(self, tick: int, inputs: Arrays, most: int) -> None:
        self.steps[tick] = inputs
        while len(self.steps) > most:
            self.lasting |= _lasting(self.steps.pop(min(self.steps)))

    @property
    def num_bytes(self) -> int:
        held = (self.opening, self.lasting, *self.steps.values())
        return sum(array.nbytes for arrays in held for array in arrays.values())

    def history(self) -> list[tuple[int, Arrays]]:
        """What to run again, in order. It begins at an even block: the decoder's two sets of
        buffers take turns, and opening writes the first."""
        ticks, lasting = sorted(self.steps), dict(self.lasting)
        while ticks and self.steps[ticks[0]]["block"][0] % 2:
            lasting |= _lasting(self.steps[ticks.pop(0)])
        if not ticks:
            return []
        first, *others = ticks
        begun = {**lasting, **self.steps[first]}
        return [(first, begun), *((tick, self.steps[tick]) for tick in others)]


def _lasting(inputs: Arrays) -> Arrays:
    return {name: inputs[name] for name in LASTING if name in inputs}


class ReplayedCalls:
    """`Calls` that outlive their models. `most` names the models whose steps are kept, and how many
    of each."""

    def __init__(self, calls: Calls, most: Mapping[str, int]) -> None:
        self.calls, self.most = calls, most
        self._lock = threading.Lock()  # guards what is kept
        self._kept: dict[tuple[str, int], Kept] = {}
        self.replays: Counter[str] = Counter()
        """Model -> how often a session was brought back there."""
        self._recovering = {model: threading.Lock() for model in most}

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
        self.calls.open(session, tensors)
        with self._lock:
            for model in self.most:
                self._kept[model, session] = Kept(_copied(tensors[model]))

    def step(self, model: str, session: int, tick: int, inputs: Arrays) -> Array | None:
        def step() -> Array | None:
            return self.calls.step(model, session, tick, inputs)

        return self._kept_step(model, session, tick, inputs, step)

    def step_and_read(
        self, model: str, session: int, tick: int, inputs: Arrays, what: str
    ) -> tuple[Array | None, Array]:
        def step() -> tuple[Array | None, Array]:
            return self.calls.step_and_read(model, session, tick, inputs, what)

        return self._kept_step(model, session, tick, inputs, step)

    def _kept_step(
        self, model: str, session: int, tick: int, inputs: Arrays, step: Callable[[], T]
    ) -> T:
        while True:
            result, begun = self._surviving(model, session, step)
            with self._lock:
                kept = self._kept.get((model, session))
                if kept is None:
                    return result
                kept.add(tick, _copied(inputs), self.most[model])
                if kept.begun == begun:
                    return result
            # It was brought back in between, without this step.

    def reopen(self, model: str, session: int, tensors: Arrays, tick: int) -> None:
        self.calls.reopen(model, session, tensors, tick)

    def close(self, session: int) -> None:
        with self._lock:
            for model in self.most:
                self._kept.pop((model, session), None)
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
                history = kept.history()
            began_s = time.monotonic()
            first = history[0][0] if history else 0
            _patiently(lambda: self.calls.reopen(model, session, kept.opening, first), lost)
            for tick, inputs in history:
                self.calls.step(model, session, tick, inputs)
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


def _patiently(call: Callable[[], T], lost: ModelLost | None = None) -> T:
    """The result of a call that is made again while its model is away."""
    give_up_s = time.monotonic() + RECOVERY_S
    while True:
        try:
            return call()
        except ModelLost as error:
            if time.monotonic() > give_up_s:
                raise lost or error from None
        time.sleep(POLL_S)


def _copied(arrays: Arrays) -> Arrays:
    """Answers of other processes are views of memory that both share, and that is wanted back."""
    return {name: np.array(array) for name, array in arrays.items()}


def exact_blocks(window_blocks: int, num_layers: int, steps_per_stage: int) -> int:
    """Blocks whose inputs decide a stage's caches to the last bit: in each layer of each of its
    steps a block's K/V depend on those of the window before it, one layer deeper."""
    return (window_blocks - 1) * num_layers * steps_per_stage


def kept_steps(
    stages: Iterable[str], blocks: int, decoder: str, decoder_blocks: int
) -> dict[str, int]:
    """`most` of `ReplayedCalls`. One block more, so that an even one begins."""
    return {**dict.fromkeys(stages, blocks + 1), decoder: decoder_blocks + 1}
