"""What the sessions of a public model compute: work handed from station to station, in turns.

    control thread ─▶ station 0 ─▶ station 1 ─▶ … ─▶ the decoder ─▶ control thread ─▶ the client

A subclass names the stations and says what a session's next piece of work is.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from pipeline.engines.base import Array
from pipeline.sessions.calls import Executor
from pipeline.sessions.control import Control
from pipeline.sessions.occupancy import Occupancy
from pipeline.sessions.session import BlockFrames, ServedSession
from pipeline.sessions.stations import LANES, Station, Work
from pipeline.sessions.tracing import BlockTrace, Pass, Tracer

S = TypeVar("S", bound=ServedSession)
W = TypeVar("W", bound=Work)


class Orchestrator(Control[S], Generic[S, W]):
    """The stations of a public model, in the order in which work passes them."""

    def __init__(self, executor: Executor, **limits: Any) -> None:
        """`limits` are those of `Control`."""
        super().__init__(executor, **limits)
        self._stations: list[Station[W]] = []
        self._at_first = 0
        self.under_way = Occupancy()
        """Seconds in which at least one piece of work was at the stations."""
        self.tracer: Tracer | None = None
        """Gets every answered block, once there is one."""

    @property
    def stations(self) -> Sequence[Station[Any]]:
        """All that work passes, in order."""
        return self._stations

    def add_station(self, name: str, run: Callable[[W], bool]) -> None:
        """Append a station; on its threads `run` has its model work and says whether the work goes
        on from there."""
        number = len(self._stations)
        works, dropped = partial(self._pass, number, run), partial(self._on_dropped, number)
        station = Station(name, works, partial(self.post, dropped), in_order=number > 0)
        self._stations.append(station)

    @abstractmethod
    def next_work(self, session: S) -> W:
        """The session's next piece of work, taken from it."""

    @abstractmethod
    def answer(self, work: W, frames: Array) -> BlockFrames | None:
        """What the client gets of a decoded block [T, H, W, 3]; None if it was withdrawn."""

    def passed(self, work: W, station: int) -> None:
        """Work has left a station, and nothing else is known of it yet."""

    def dispatch(self) -> None:
        while self._at_first < LANES and self.may_enter():
            if (session := self._next_session()) is None:
                return
            self.guard(session, self.enter, session)

    def may_enter(self) -> bool:
        """Whether another piece of work may be under way."""
        return True

    def enter(self, session: S) -> None:
        """Send the session's next piece of work to the first station."""
        work = self.next_work(session)
        self._at_first += 1
        session.in_flight += 1
        self.under_way.enter()
        self._stations[0].put(work)

    def forget(self, session: S) -> None:
        for station in self._stations:
            station.forget(session)

    def end(self) -> None:
        for station in self._stations:
            station.end()

    def stop(self) -> None:
        super().stop()
        for station in self._stations:
            station.join()

    def _next_session(self) -> S | None:
        """Whose turn it is: live sessions', then the others'. Busy sessions share the places at the
        stations, so that one with a long backlog does not fill the queue of the slowest model
        before another's first block. Beside a live session nobody queues a block ahead."""
        busy = sum(1 for s in self.turns if s.in_flight or (s.has_work() and self.has_room(s)))
        is_live = any(s.is_live for s in self.turns)
        places = (1 if is_live else LANES) * len(self._stations)
        share = -(-places // max(busy, 1))
        for session in sorted(self.turns, key=lambda s: not s.is_live):
            if session.in_flight < share and session.can_dispatch() and self.has_room(session):
                self.turns.remove(session)
                self.turns.append(session)
                return session
        return None

    # The stations' threads

    def decode(self, work: W) -> bool:
        """What the last station runs: frames of the work's latent."""
        work.frames = self.executor.decode(work.session.id, work.place, work.block, work.latent)
        return False

    def _pass(self, number: int, run: Callable[[W], bool], work: W) -> None:
        began = time.perf_counter()
        goes_on = run(work)
        work.passes.append(Pass(self._stations[number].name, began, time.perf_counter()))
        if goes_on:
            self._stations[number + 1].put(work)
        self.post(self._on_passed, number, work, goes_on)

    # The control thread

    def _on_passed(self, number: int, work: W, goes_on: bool) -> None:
        self._at_first -= number == 0
        self.passed(work, number)
        if goes_on:
            return
        session: S = work.session
        session.in_flight -= 1
        self.under_way.leave()
        session.last_seen = time.monotonic()
        frames, work.frames = work.frames, None  # a lane keeps its last work until the next
        if frames is not None and not session.phase.is_closing:
            self.guard(session, self._answer, work, frames)

    def _answer(self, work: W, frames: Array) -> None:
        if (answer := self.answer(work, frames)) is not None:
            self._trace(work)
            self.deliver(work.session, answer)

    def _trace(self, work: W) -> None:
        parent = work.session.traceparent if self.tracer is not None else None
        if self.tracer is not None and parent is not None:
            passes, now_s = tuple(work.passes), time.perf_counter()
            session, block = work.session.id, work.block
            self.tracer.record(
                BlockTrace(
                    parent=parent, session=session, block=block, passes=passes, ended_s=now_s
                )
            )

    def _on_dropped(self, number: int, work: W, failure: str | None) -> None:
        self._at_first -= number == 0
        work.session.in_flight -= 1
        self.under_way.leave()
        if failure is not None:
            self.fail(work.session, failure)
