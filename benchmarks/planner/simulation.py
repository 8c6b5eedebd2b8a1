"""A pipeline of stations as the server runs it, in simulated time.

A station is a model with its queue and two lanes: one block is worked on, the next is on its way
there (`pipeline.sessions.stations`). A device works on one block at a time. Sessions take turns,
and busy ones share the places at the stations equally (`pipeline.sessions.orchestrator`).

    arrival ──▶ station 0 ──▶ station 1 ──▶ … ──▶ the last one ──▶ answer
"""

import heapq
import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LANES = 2
"""Blocks at a station, as in `pipeline.sessions.stations`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A model that blocks pass. Stations that name the same device take turns on it."""

    name: str
    seconds: float
    """Of one block, when every cache is full."""
    device: int
    extra_s: Mapping[int, float] = field(default_factory=dict)
    """By block: seconds beyond `seconds`, below 0 for a block that costs less."""
    hop_s: float = 0.0
    """From the queue to the model and back: no device works meanwhile."""

    def work_s(self, block: int) -> float:
        return max(self.seconds + self.extra_s.get(block, 0.0), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A block on a device."""

    session: int
    block: int
    station: int
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was simulated."""

    stations: Sequence[Station]
    arrivals_s: Sequence[Sequence[float]]
    """By session and block: when the block's sound was there."""
    answers_s: Sequence[Sequence[float]]
    """By session and block: when its frames left."""
    visits: Sequence[Visit]

    def period_s(self, edge: int = 12) -> float:
        """Mean interval between blocks of all sessions together, while all of them run: without
        the first and the last `edge` blocks, shared out among the sessions."""
        left = edge // len(self.answers_s)
        first = max(times[min(left, len(times) - 1)] for times in self.answers_s)
        last = min(times[max(len(times) - 1 - left, 0)] for times in self.answers_s)
        steady = sum(first <= t <= last for times in self.answers_s for t in times)
        if steady < 2:
            raise ValueError(f"no steady state: wanted more than 2 × {edge} blocks")
        return (last - first) / (steady - 1)

    def latencies_s(self, session: int = 0) -> list[float]:
        """From a block's sound to its frames, block by block."""
        pairs = zip(self.arrivals_s[session], self.answers_s[session], strict=True)
        return [answered - arrived for arrived, answered in pairs]

    def bubble_ratio(self, edge: int = 12) -> float:
        """Share of the devices' time in which they idle, in the steady state: 1 − work of a
        block over (devices × period)."""
        devices = {station.device for station in self.stations}
        work = sum(station.seconds for station in self.stations)
        return max(1 - work / (len(devices) * self.period_s(edge)), 0.0)

    def start_stall_s(self, block_s: float, settled: int) -> float:
        """How much later than the first block's pace the first `settled` blocks come: what a viewer
        has to buffer, or waits for once."""
        return max(self._behind_s(times, block_s, settled) - times[0] for times in self.answers_s)

    def late_ratio(self, buffer_s: float, block_s: float, settled: int = 1) -> float:
        """Share of blocks that come after their moment. A viewer's moments are those that the
        first `settled` blocks meet, and `buffer_s` later."""
        late = total = 0
        for times in self.answers_s:
            start = self._behind_s(times, block_s, settled) + buffer_s
            late += sum(t > start + n * block_s + 1e-9 for n, t in enumerate(times))
            total += len(times)
        return late / total

    @staticmethod
    def _behind_s(times: Sequence[float], block_s: float, settled: int) -> float:
        """The earliest moment for block 0 with which the first blocks are in time."""
        return max(t - n * block_s for n, t in enumerate(times[:settled]))


def simulate(
    stations: Sequence[Station], arrivals_s: Sequence[Sequence[float]], *, lanes: int = LANES
) -> Run:
    """Run blocks through `stations`; `arrivals_s` by session and block, ascending. `lanes` is 1 for
    live talks, which queue no block ahead."""
    if not stations or not arrivals_s or not all(arrivals_s):
        raise ValueError("nothing to simulate: wanted stations, sessions and blocks of each")
    return _Simulation(stations, arrivals_s, lanes).run()


def backlog(sessions: int, blocks: int) -> list[list[float]]:
    """Arrivals of sessions whose sound is all there: as fast as it goes."""
    return [[0.0] * blocks for _ in range(sessions)]


def in_time(sessions: int, blocks: int, block_s: float) -> list[list[float]]:
    """Arrivals of sessions in real time, evenly apart from each other."""
    starts = [block_s * session / sessions for session in range(sessions)]
    return [[start + n * block_s for n in range(blocks)] for start in starts]


@dataclass(slots=True)
class _Block:
    session: int
    block: int
    station: int = 0


class _Simulation:
    """Events in the order of their time; ties in the order in which they were planned."""

    def __init__(
        self, stations: Sequence[Station], arrivals_s: Sequence[Sequence[float]], places: int
    ) -> None:
        self.stations, self.arrivals_s, self.places = stations, arrivals_s, places
        self.answers_s: list[list[float]] = [[] for _ in arrivals_s]
        self.visits: list[Visit] = []
        self._events: list[tuple[float, int, str, _Block]] = []
        self._count = itertools.count()
        self._queues: list[deque[_Block]] = [deque() for _ in stations]
        self._free_lanes = [LANES] * len(stations)
        devices = {station.device for station in stations}
        self._waiting: dict[int, deque[_Block]] = {device: deque() for device in devices}
        self._is_busy = dict.fromkeys(devices, False)
        self._turns = list(range(len(arrivals_s)))
        self._entered = [0] * len(arrivals_s)
        self._in_flight = [0] * len(arrivals_s)
        self._at_first = 0

    def run(self) -> Run:
        for session, times in enumerate(self.arrivals_s):
            for number, time_s in enumerate(times):
                self._plan(time_s, "arrive", _Block(session, number))
        now = 0.0
        while self._events:
            now, _, kind, block = heapq.heappop(self._events)
            getattr(self, f"_{kind}")(now, block)
            self._dispatch(now)
        return Run(
            stations=self.stations,
            arrivals_s=self.arrivals_s,
            answers_s=self.answers_s,
            visits=self.visits,
        )

    def _plan(self, time_s: float, kind: str, block: _Block) -> None:
        heapq.heappush(self._events, (time_s, next(self._count), kind, block))

    def _arrive(self, now: float, block: _Block) -> None:
        """Sound is there: `_dispatch` sees it by the time."""

    def _dispatch(self, now: float) -> None:
        """Let blocks in while the first station has room, sessions in turn."""
        while self._at_first < LANES:
            ready = [s for s in self._turns if self._is_ready(s, now)]
            busy = sum(1 for s in self._turns if self._in_flight[s] or s in ready)
            share = -(-self.places * len(self.stations) // max(busy, 1))
            session = next((s for s in ready if self._in_flight[s] < share), None)
            if session is None:
                return
            self._turns.remove(session)
            self._turns.append(session)
            self._at_first += 1
            self._in_flight[session] += 1
            self._enqueue(now, _Block(session, self._entered[session]))
            self._entered[session] += 1

    def _is_ready(self, session: int, now: float) -> bool:
        times, number = self.arrivals_s[session], self._entered[session]
        return number < len(times) and times[number] <= now

    def _enqueue(self, now: float, block: _Block) -> None:
        self._queues[block.station].append(block)
        self._take(now, block.station)

    def _take(self, now: float, station: int) -> None:
        """Free lanes carry what waits to the model."""
        while self._free_lanes[station] and self._queues[station]:
            self._free_lanes[station] -= 1
            block = self._queues[station].popleft()
            self._plan(now + self.stations[station].hop_s / 2, "reach", block)

    def _reach(self, now: float, block: _Block) -> None:
        device = self.stations[block.station].device
        self._waiting[device].append(block)
        self._begin(now, device)

    def _begin(self, now: float, device: int) -> None:
        if self._is_busy[device] or not self._waiting[device]:
            return
        self._is_busy[device] = True
        block = self._waiting[device].popleft()
        ends = now + self.stations[block.station].work_s(block.block)
        place = {"session": block.session, "block": block.block, "station": block.station}
        self.visits.append(Visit(**place, began_s=now, ended_s=ends))
        self._plan(ends, "end", block)

    def _end(self, now: float, block: _Block) -> None:
        station = self.stations[block.station]
        self._is_busy[station.device] = False
        self._begin(now, station.device)
        self._plan(now + station.hop_s / 2, "leave", block)

    def _leave(self, now: float, block: _Block) -> None:
        station = block.station
        self._free_lanes[station] += 1
        self._at_first -= station == 0
        if station + 1 < len(self.stations):
            self._enqueue(now, _Block(block.session, block.block, station + 1))
        else:
            self._in_flight[block.session] -= 1
            self.answers_s[block.session].append(now)
        self._take(now, station)
