"""Text-to-video streams on one device: sessions take turns tick by tick, the decoder beside them.

    tick n      window: blocks n-4 … n of one session      decoder: block n-5

Nothing is made that nobody has asked for. What is decided here is decided on the control thread of
`pipeline.sessions.orchestrator`; the threads of `pipeline.rolling.lanes` wait for the models.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from pipeline.avatar.lanes import LANES
from pipeline.config.rolling import RollingConfig
from pipeline.rolling.lanes import RollingExecutor, RollingLanes, Tick
from pipeline.rolling.request import RollingRequest
from pipeline.rolling.session import RollingSession, new_session
from pipeline.sessions.orchestrator import Orchestrator
from pipeline.sessions.session import BlockFrames


class RollingForcing(Orchestrator[RollingSession]):
    """The orchestrator of `rolling_forcing`; `submit` may be called from any thread."""

    name = "rolling_forcing"

    def __init__(
        self,
        rules: Mapping[str, RollingConfig],
        executor: RollingExecutor,
        *,
        max_sessions: int,
        idle_timeout_s: float,
    ) -> None:
        """`rules` by name, as `pipeline.config.rules.served_rules` gives them."""
        super().__init__(max_sessions=max_sessions, idle_timeout_s=idle_timeout_s)
        self.rules = rules
        self.executor = executor
        self._at_window = 0
        self.lanes = self._lanes = RollingLanes(executor, self)
        self.run()

    def new_session(self, request: RollingRequest, now: float) -> RollingSession:
        return new_session(request, self.rules, now)

    def close_now(self, session: RollingSession) -> None:
        self.executor.close(session.id)

    # What the lanes report, on their threads

    def ticked(self, tick: Tick) -> None:
        self.post(self._on_tick, tick)

    def decoded(self, tick: Tick, frames: np.ndarray) -> None:
        self.post(self._on_frames, tick, frames)

    def dropped(self, tick: Tick, at_window: bool, failure: str | None) -> None:
        self.post(self._on_dropped, tick, at_window, failure)

    # The control thread

    def _on_tick(self, tick: Tick) -> None:
        self._at_window -= 1
        if tick.latent is None:
            tick.session.in_flight -= 1
            tick.session.last_seen = time.monotonic()

    def _on_dropped(self, tick: Tick, at_window: bool, failure: str | None) -> None:
        tick.session.in_flight -= 1
        self._at_window -= at_window
        if failure is not None:
            self.fail(tick.session, failure)

    def _on_frames(self, tick: Tick, frames: np.ndarray) -> None:
        session = tick.session
        session.in_flight -= 1
        if session.closing:
            return
        assert tick.latent is not None
        total_ms = 1e3 * (time.perf_counter() - tick.handed_out_s)
        queued_ms = max(0.0, total_ms - tick.window_ms - tick.decode_ms)
        done = BlockFrames(
            block=tick.block,
            frame_index=session.frame_index(tick.block),
            frames=session.shown(tick.block, frames),
            latent=tick.latent,
            timings_ms=np.array([total_ms, queued_ms, tick.decode_ms, tick.window_ms], np.float32),
        )
        self.deliver(session, done)

    def dispatch(self) -> None:
        """Hand out ticks; sessions take turns."""
        num_places = 2 * LANES  # at the window and the decoder
        while self._at_window < LANES and (session := self.next_session(num_places)) is not None:
            self.guard(session, self._enter, session)

    def _enter(self, session: RollingSession) -> None:
        number, change = session.begin_tick()
        self._at_window += 1
        session.in_flight += 1
        self._lanes.enter(
            Tick(session=session, number=number, change=change, handed_out_s=time.perf_counter())
        )
