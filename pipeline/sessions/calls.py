"""Executors, and how they reach the models: over Triton (`pipeline.triton.calls`) or in here.

A model either holds nothing (`call`), or it holds sessions: `open`, then one `step` for each tick
in turn, then `close`.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from pipeline.engines.base import Array, Arrays
from pipeline.engines.device_sessions import NOT_OPEN, Device, DeviceSessions, OutOfOrder
from pipeline.sessions.text import Tokenizer

T = TypeVar("T")
RETRY_S, GIVE_UP_S = 0.001, 60.0
NO_FRAMES = np.empty((0, 0, 0, 3), np.uint8)


class ModelLost(RuntimeError):  # noqa: N818 - as far as it goes, nothing is wrong with the call
    """The model's process is dead, away, or back without the session. It may be asked again."""

    MARKS = (NOT_OPEN, "is not healthy", "no available versions", "unknown model", "is not ready")
    """In the words of Triton and of the models that are behind a process's border."""


class ProcessDied(ModelLost):
    """The model's process is dead for certain: it will write nothing any more."""

    def __init__(self, model: str, words: str) -> None:
        super().__init__(f"{model}: {words}")
        self.model = model


class Calls(Protocol):
    """Every call blocks and may come from any thread. RuntimeError names the model that failed,
    ModelLost one that may come back."""

    def ready(self) -> None:
        """Before a session's first call; RuntimeError if the models don't belong together."""

    def is_loaded(self, model: str) -> bool:
        """Whether it can be called."""

    def call(self, model: str, inputs: Arrays, outputs: list[str]) -> Arrays:
        """Run a model that holds nothing."""

    def open(self, session: int, tensors: Mapping[str, Arrays]) -> None:
        """Open a session at every model that has tensors, with these."""

    def reopen(self, model: str, session: int, tensors: Arrays, tick: int) -> None:
        """Open a session at one model that has lost it; its next step there is number `tick`."""

    def step(self, model: str, session: int, tick: int, inputs: Arrays) -> Array | None:
        """Have a model do what is the session's tick number `tick` there, counted from 0. None if
        that makes nothing."""

    def step_and_read(
        self, model: str, session: int, tick: int, inputs: Arrays, what: str
    ) -> tuple[Array | None, Array]:
        """`step`, and what the model holds of the session after it, by name."""

    def close(self, session: int) -> None:
        """Free the session at every model; never raises."""

    def stop(self) -> None:
        """End what carries the calls, after the last one."""


class Executor(ABC):
    """Runs the models. Every call blocks and may come from any thread."""

    decoder: ClassVar[str]  # the model that makes frames of latents

    def __init__(self, config: PipelineConfig | RollingConfig, folder: Path, calls: Calls) -> None:
        """`folder` has the tokenizer."""
        self.config = config
        self.tokenizer = Tokenizer(config, folder)
        self.calls = calls

    @abstractmethod
    def start(self, request: Any) -> None:
        """Condition on what START brought, and open the session at every model that holds it."""

    def decode(self, session: int, tick: int, block: int, latent: Array | None) -> Array:
        """Frames uint8 [T, H, W, 3], T = 0 without a latent: then nobody wants the block."""
        tensors = {"block": np.array([block], np.int64)}
        if latent is not None:
            tensors["latent"] = latent
        frames = self.calls.step(self.decoder, session, tick, tensors)
        if frames is None and latent is not None:
            raise RuntimeError(f"{self.decoder} answered without frames")
        return NO_FRAMES if frames is None else frames

    def close(self, session: int) -> None:
        self.calls.close(session)

    def stop(self) -> None:
        self.calls.stop()


class LocalCalls:
    """Models in this process. One that holds sessions does one thing at a time."""

    def __init__(
        self,
        graphs: Mapping[str, Callable[[Arrays], Arrays]],
        holders: Mapping[str, Device],
        max_sessions: int,
    ) -> None:
        self.graphs = graphs
        self.holders = {
            name: DeviceSessions(device, name, max_sessions, copies=True)
            for name, device in holders.items()
        }

    def ready(self) -> None:
        """Models of one process belong together."""

    def is_loaded(self, model: str) -> bool:
        return model in self.graphs

    def call(self, model: str, inputs: Arrays, outputs: list[str]) -> Arrays:
        results = self.graphs[model](inputs)
        return {name: results[name] for name in outputs}

    def open(self, session: int, tensors: Mapping[str, Arrays]) -> None:
        for name, given in tensors.items():
            self.holders[name].open(session, dict(given))

    def reopen(self, model: str, session: int, tensors: Arrays, tick: int) -> None:
        self.holders[model].open(session, dict(tensors), tick)

    def step(self, model: str, session: int, tick: int, inputs: Arrays) -> Array | None:
        holder = self.holders[model]
        return in_turn(lambda: holder.step(session, tick, dict(inputs)))

    def step_and_read(
        self, model: str, session: int, tick: int, inputs: Arrays, what: str
    ) -> tuple[Array | None, Array]:
        holder = self.holders[model]
        return in_turn(lambda: holder.step_and_read(session, tick, dict(inputs), what))

    def close(self, session: int) -> None:
        for holder in self.holders.values():
            holder.close(session)

    def stop(self) -> None:
        for holder in self.holders.values():
            holder.close_all()


def in_turn(call: Callable[[], T]) -> T:
    """The result of a call that may overtake its predecessor: it is made again until its turn."""
    give_up = time.monotonic() + GIVE_UP_S
    while True:
        try:
            return call()
        except OutOfOrder:
            if time.monotonic() > give_up:
                raise
        time.sleep(RETRY_S)
