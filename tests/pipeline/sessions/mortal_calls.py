"""Models in this process that die when they are told to."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.engines.base import Array, Arrays
from pipeline.engines.device_sessions import NOT_OPEN, DeviceSessions
from pipeline.sessions.calls import LocalCalls, ModelLost

T = TypeVar("T")


class MortalCalls:
    """`LocalCalls` whose models may die, and are back empty when somebody says so."""

    def __init__(self, calls: LocalCalls) -> None:
        self.inner = calls
        self.at: list[tuple[str, int]] = []  # models that die when they are given a tick
        self.answers_never: list[tuple[str, int]] = []
        """Those that die when they have done it, and their answer is lost."""
        self.away: set[str] = set()
        self.reopened: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def step(self, model: str, session: int, tick: int, inputs: Arrays) -> Array | None:
        return self._mortal(model, tick, lambda: self.inner.step(model, session, tick, inputs))

    def step_and_read(
        self, model: str, session: int, tick: int, inputs: Arrays, what: str
    ) -> tuple[Array | None, Array]:
        return self._mortal(
            model, tick, lambda: self.inner.step_and_read(model, session, tick, inputs, what)
        )

    def reopen(self, model: str, session: int, tensors: Arrays, tick: int) -> None:
        self._lossy(model, lambda: self.inner.reopen(model, session, tensors, tick))
        self.reopened.append((model, tick))

    def _mortal(self, model: str, tick: int, step: Callable[[], T]) -> T:
        if (model, tick) in self.at:
            self.at.remove((model, tick))
            self.kill(model)
        made = self._lossy(model, step)
        if (model, tick) in self.answers_never:
            self.answers_never.remove((model, tick))
            self.kill(model)
            raise ModelLost(f"{model} is not healthy")
        return made

    def kill(self, model: str) -> None:
        """Its sessions are gone, and for a moment so is it."""
        old = self.inner.holders[model]
        old.close_all()
        self.away.add(model)
        self.inner.holders[model] = DeviceSessions(old.device, model, 4, copies=True)
        threading.Timer(0.2, self.away.discard, [model]).start()

    def _lossy(self, model: str, call: Callable[[], T]) -> T:
        if model in self.away:
            raise ModelLost(f"{model} is not healthy")
        try:
            return call()
        except RuntimeError as error:
            if NOT_OPEN in str(error):
                raise ModelLost(str(error)) from None
            raise
