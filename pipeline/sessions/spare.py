"""A spare process stands in for any of some models whose process is dead.

Each of these models is a place, and a process stands at it: at first the one of its name. When that
one dies the spare takes its place, and what comes back in the end is the new spare.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from pipeline.engines.base import Array, Arrays
from pipeline.sessions.calls import Calls, ProcessDied

logger = logging.getLogger(__name__)


class StageCalls(Calls, Protocol):
    """Calls that tell stages apart."""

    def steps_of(self, model: str) -> Sequence[int] | None:
        """Denoising steps that a stage owns; None: any. RuntimeError if it can't be reached."""


class SparedCalls:
    """`Calls` of places. Who is lost at one is asked again, and is another process then."""

    def __init__(self, calls: StageCalls, places: Sequence[str], spare: str) -> None:
        self.calls = calls
        self._lock = threading.Lock()  # guards the three below
        self._at = {place: place for place in places}
        self._spare = spare
        self._steps: dict[str, Array] = {}

    def ready(self) -> None:
        self.calls.ready()

    def is_loaded(self, model: str) -> bool:
        return self.calls.is_loaded(model)

    def call(self, model: str, inputs: Arrays, outputs: list[str]) -> Arrays:
        return self.calls.call(model, inputs, outputs)

    def open(self, session: int, tensors: Mapping[str, Arrays]) -> None:
        with self._replacing():
            given = {self._process(m): self._with_steps(m, of) for m, of in tensors.items()}
            self.calls.open(session, given)

    def reopen(self, model: str, session: int, tensors: Arrays, tick: int) -> None:
        with self._replacing():
            given = self._with_steps(model, tensors)
            self.calls.reopen(self._process(model), session, given, tick)

    def step(self, model: str, session: int, tick: int, inputs: Arrays) -> Array | None:
        with self._replacing():
            return self.calls.step(self._process(model), session, tick, inputs)

    def step_and_read(
        self, model: str, session: int, tick: int, inputs: Arrays, what: str
    ) -> tuple[Array | None, Array]:
        with self._replacing():
            return self.calls.step_and_read(self._process(model), session, tick, inputs, what)

    def close(self, session: int) -> None:
        self.calls.close(session)

    def stop(self) -> None:
        self.calls.stop()

    def _process(self, model: str) -> str:
        with self._lock:
            return self._at.get(model, model)

    def _with_steps(self, model: str, tensors: Arrays) -> Arrays:
        """With the denoising steps of a place, which any process may be given."""
        if model not in self._at:
            return tensors
        if model not in self._steps:
            owned = self.calls.steps_of(model)
            assert owned is not None, f"{model} does not say which steps it owns"
            self._steps[model] = np.array(owned, np.int64)
        return {**tensors, "steps": self._steps[model]}

    @contextmanager
    def _replacing(self) -> Iterator[None]:
        """The process that is found dead is replaced. Its call has failed all the same."""
        try:
            yield
        except ProcessDied as died:
            self._replace(died.model)
            raise

    def _replace(self, dead: str) -> None:
        """Have the spare stand where a process is dead, if it lives."""
        with self._lock:
            place = next((place for place, process in self._at.items() if process == dead), None)
            if place is None:  # it was replaced since, or is no stage
                return
            try:
                self.calls.steps_of(self._spare)  # whether it lives
            except RuntimeError:
                return  # then the dead one has to come back
            self._at[place], self._spare = self._spare, dead
            logger.warning("%s: %s takes the place of %s", place, self._at[place], dead)
