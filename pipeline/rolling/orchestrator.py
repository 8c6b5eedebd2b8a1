"""Text-to-video streams on one device: sessions take turns tick by tick, the decoder beside them.

    tick n      window: blocks n-4 … n of one session      decoder: block n-5

Nothing is made that nobody has asked for.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.rolling import RollingConfig
from pipeline.engines.base import Array
from pipeline.rolling.executor import RollingExecutor
from pipeline.rolling.request import RollingRequest
from pipeline.rolling.session import Change, RollingSession
from pipeline.sessions.orchestrator import Orchestrator
from pipeline.sessions.session import BlockFrames
from pipeline.sessions.stations import Work


@dataclass(slots=True, kw_only=True)
class Tick(Work):
    """A tick on its way through the window and, with the block it finishes, the decoder; `block` is
    negative while the window fills."""

    session: RollingSession
    number: int
    change: Change
    handed_out_s: float


class RollingOrchestrator(Orchestrator[RollingSession, Tick]):
    """The orchestrator of `rolling_forcing`; `submit` may be called from any thread."""

    name = "rolling_forcing"
    executor: RollingExecutor

    def __init__(
        self,
        rules: Mapping[str, RollingConfig],
        executor: RollingExecutor,
        **limits: Any,
    ) -> None:
        """`rules` by name, as `pipeline.config.rules.served_rules` gives them; `limits` are those
        of `Control`."""
        super().__init__(executor, **limits)
        self.rules = rules
        self.add_station("window", self._tick)
        self.add_station("decoder", self.decode)
        self.run()

    def new_session(self, request: RollingRequest, now: float) -> RollingSession:
        """A session under the rules that START names."""
        rules = self.rules[request.options.rules]
        return RollingSession(request=request, config=rules, last_seen=now)

    # The stations' threads

    def _tick(self, tick: Tick) -> bool:
        change = tick.change
        tensors = {"noise": change.noise, "text": change.text}
        if change.prompt is not None:
            tensors["text"] = self.executor.encode_text(change.prompt)
        if change.num_blocks is not None:
            tensors["num_blocks"] = np.array([change.num_blocks], np.int64)
        given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        tick.latent = self.executor.tick(tick.session.id, tick.number, **given)
        if (tick.latent is None) != (tick.block < 0):
            raise RuntimeError(f"tick {tick.number} came without its block {tick.block}")
        return tick.latent is not None

    # The control thread

    def next_work(self, session: RollingSession) -> Tick:
        number, change = session.begin_tick()
        return Tick(
            session=session,
            block=number - session.latency,
            number=number,
            change=change,
            handed_out_s=time.perf_counter(),
        )

    def answer(self, work: Tick, frames: Array) -> BlockFrames:
        assert work.latent is not None
        window_ms, decode_ms = work.times_ms
        total_ms = 1e3 * (time.perf_counter() - work.handed_out_s)
        queued_ms = max(0.0, total_ms - window_ms - decode_ms)
        return BlockFrames(
            block=work.block,
            frame_index=work.session.frame_index(work.block),
            frames=work.session.shown(work.block, frames),
            latent=work.latent,
            timings_ms=np.array([total_ms, queued_ms, decode_ms, window_ms], np.float32),
        )
