"""The threads that wait for the window and the decoder, so that the control thread never does.

Two lanes each, as in `pipeline.avatar.lanes`: while one tick is worked on, the next is queued.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from pipeline.avatar.lanes import LANES, SessionLanes, spawn
from pipeline.rolling.request import RollingRequest
from pipeline.rolling.session import Change, RollingSession
from pipeline.sessions.inbox import Inbox


@dataclass(slots=True, kw_only=True)
class Tick:
    """A tick on its way through the window and, with the block it finishes, the decoder."""

    session: RollingSession
    number: int
    change: Change
    handed_out_s: float
    latent: np.ndarray | None = None
    window_ms: float = 0.0
    decode_ms: float = 0.0

    @property
    def block(self) -> int:
        """The block that is finished by it; negative while the window fills."""
        return self.number - self.session.latency


class RollingExecutor(Protocol):
    """Runs the models. Every call blocks and may come from any thread."""

    def start(self, request: RollingRequest) -> None:
        """Encode the prompt, open the session at the window and the decoder."""

    def encode_text(self, prompt: str) -> np.ndarray:
        """text [1, text_len, text_dim]."""

    def tick(self, session: int, tick: int, **tensors: np.ndarray) -> np.ndarray | None:
        """Tensors as in `WindowDevice.step`. Returns a finished block's latent."""

    def decode(self, session: int, block: int, latent: np.ndarray) -> np.ndarray:
        """Frames uint8 [T, H, W, 3]."""

    def close(self, session: int) -> None:
        """Free the session everywhere; never raises."""


class Control(Protocol):
    """What the lanes report. Called on their threads; must not block."""

    def ticked(self, tick: Tick) -> None:
        """The window is done with a tick; if it finished a block, `decoded` follows."""

    def decoded(self, tick: Tick, frames: np.ndarray) -> None: ...

    def dropped(self, tick: Tick, at_window: bool, failure: str | None) -> None:
        """A tick ends early: its session is closing, or a model failed."""

    def started(self, session: RollingSession, failure: str | None) -> None: ...

    def closed(self, session: RollingSession) -> None: ...


class RollingLanes(SessionLanes):
    """Threads around an executor; the methods queue work and return at once."""

    _executor: RollingExecutor
    _control: Control

    def __init__(self, executor: RollingExecutor, control: Control) -> None:
        self._executor = executor
        self._control = control
        self._ticks: queue.SimpleQueue[Tick | None] = queue.SimpleQueue()
        self._blocks: Inbox[Tick] = Inbox()
        lanes: list[tuple[str, Callable[[], None]]] = [
            ("window", partial(self._lane, self._ticks.get, self._run, at_window=True)),
            ("decoder", partial(self._lane, self._blocks.get, self._decode, at_window=False)),
        ]
        self._threads = [
            spawn(f"{name} lane {lane}", target) for name, target in lanes for lane in range(LANES)
        ]

    def enter(self, tick: Tick) -> None:
        """Send a tick to the window."""
        self._ticks.put(tick)

    def forget(self, session: RollingSession) -> None:
        """Drop what is known of a closed session's blocks."""
        self._blocks.forget(session)

    def end(self) -> None:
        """Let the threads go home after what they are doing."""
        for _ in range(LANES):
            self._ticks.put(None)
            self._blocks.end()

    def _lane(
        self, get: Callable[[], Tick | None], run: Callable[[Tick], None], *, at_window: bool
    ) -> None:
        while (tick := get()) is not None:
            failure = None
            if not tick.session.closing:
                try:
                    run(tick)
                    continue
                except Exception as error:
                    failure = str(error)
            self._control.dropped(tick, at_window, failure)

    def _run(self, tick: Tick) -> None:
        began = time.perf_counter()
        change = tick.change
        tensors: dict[str, Any] = {"noise": change.noise, "text": change.text}
        if change.prompt is not None:
            tensors["text"] = self._executor.encode_text(change.prompt)
        if change.num_blocks is not None:
            tensors["num_blocks"] = np.array([change.num_blocks], np.int64)
        given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        tick.latent = self._executor.tick(tick.session.id, tick.number, **given)
        tick.window_ms = 1e3 * (time.perf_counter() - began)
        if (tick.latent is None) != (tick.block < 0):
            raise RuntimeError(f"tick {tick.number} came without its block {tick.block}")
        if tick.latent is not None:
            self._blocks.put(tick)
        self._control.ticked(tick)

    def _decode(self, tick: Tick) -> None:
        assert tick.latent is not None
        began = time.perf_counter()
        frames = self._executor.decode(tick.session.id, tick.block, tick.latent)
        tick.decode_ms = 1e3 * (time.perf_counter() - began)
        self._control.decoded(tick, frames)
