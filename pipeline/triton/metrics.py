"""What models count, on Triton's metrics endpoint.

Names and units follow Prometheus; docs/operations.md lists them. A metric costs 50 microseconds at
each change, so those of a public model are brought up to date twice a second, by one thread.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import triton_python_backend_utils as pb

from pipeline.engines.device_sessions import Device
from pipeline.sessions.orchestrator import Orchestrator
from pipeline.sessions.replay import ReplayedCalls

FIRST_FRAME_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
BLOCK_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.48, 0.6, 0.8, 1.2, 2.0, 5.0)

GAUGE, COUNTER, HISTOGRAM = "GAUGE", "COUNTER", "HISTOGRAM"

COUNTED = {
    "sessions_started": ("started", "Sessions that were opened."),
    "sessions_refused": ("refused", "STARTs that opened no session."),
    "sessions_failed": ("failed", "Sessions that ended by an error."),
    "sessions_left": ("left", "Sessions whose client went away without END."),
    "sessions_ended": ("ended", "Sessions that ended by END."),
    "blocks": ("blocks", "Blocks that were answered."),
    "blocks_late": ("late", "Blocks for which a viewer had to wait."),
    "frames": ("frames", "Frames that were answered."),
    "interruptions": ("interruptions", "Interruptions."),
}
"""Metric -> the field of `Counts` that it shows, and its description."""


class Family:
    """A metric and its description, of one model; other labels make more of it."""

    def __init__(self, model: str, name: str, description: str, kind: str) -> None:
        # The kinds are named here, as Triton adds them once the model's file is imported. A metric
        # lives as long as its family's object.
        kinds = pb.MetricFamily
        self._family = kinds(
            name=f"avatar_{name}", description=description, kind=getattr(kinds, kind)
        )
        self._labels = {"model": model}
        self._metrics: dict[tuple[str, ...], Any] = {}
        self._shown: dict[tuple[str, ...], float] = {}

    def set(self, value: float, **labels: str) -> None:
        """Of a gauge."""
        self._metric(labels).set(value)

    def show(self, value: float, **labels: str) -> None:
        """Bring a counter up to `value`; it is told what is added."""
        key = tuple(labels.values())
        metric, added = self._metric(labels), value - self._shown.get(key, 0)
        if added > 0:
            metric.increment(added)
            self._shown[key] = value

    def observe(self, values: Iterable[float], buckets: Iterable[float]) -> None:
        metric = self._metric({}, buckets=list(buckets))
        for value in values:
            metric.observe(value)

    def _metric(self, labels: Mapping[str, str], **given: Any) -> Any:
        key = tuple(labels.values())
        if key not in self._metrics:
            self._metrics[key] = self._family.Metric(labels={**self._labels, **labels}, **given)
        return self._metrics[key]


class Metrics:
    """Those of one public model."""

    def __init__(
        self,
        model: str,
        orchestrator: Orchestrator[Any, Any],
        replayed: ReplayedCalls | None,
        oldest_calls_s: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """`oldest_calls_s`: by model, for how long a call has been under way."""
        self._orchestrator, self._replayed = orchestrator, replayed
        self._oldest_calls_s, self._num_updates = oldest_calls_s, 0

        def family(name: str, description: str, kind: str) -> Family:
            return Family(model, name, description, kind)

        self._gauges: list[tuple[Family, Callable[[], float]]] = [
            (family(name, description, GAUGE), read)
            for name, description, read in (
                ("sessions", "Sessions that are open.", lambda: len(orchestrator.sessions)),
                ("places", "Sessions that may be open.", lambda: orchestrator.max_sessions),
                ("blocks_in_flight", "Blocks at the stations.", self._in_flight),
                ("backlog_seconds", "Video that is due and not answered yet.", self._backlog_s),
                ("unread_blocks", "Answered and not acknowledged.", self._unread),
                ("replay_bytes", "Memory of what is kept for replays.", self._replay_bytes),
            )
        ]
        self._counters = {
            field: family(f"{name}_total", description, COUNTER)
            for name, (field, description) in COUNTED.items()
        }
        self._active = family("active_seconds_total", "Seconds with a block under way.", COUNTER)
        self._busy = family("station_busy_seconds_total", "Seconds that a model worked.", COUNTER)
        self._waiting = family("station_queue", "Blocks that wait for a model.", GAUGE)
        self._replays = family("replays_total", "Sessions brought back at a model.", COUNTER)
        self._calls = family("call_seconds", "Age of the oldest call under way.", GAUGE)
        self._beats = family("heartbeats_total", "Updates of these figures.", COUNTER)
        self._first_frame = family("first_frame_seconds", "START to first block.", HISTOGRAM)
        self._block = family("block_seconds", "A block's sound to its answer.", HISTOGRAM)

    def update(self) -> None:
        """Bring everything up to date; called by one thread."""
        orchestrator, counts = self._orchestrator, self._orchestrator.counts
        for gauge, read in self._gauges:
            gauge.set(read())
        for field, counter in self._counters.items():
            counter.show(getattr(counts, field))
        self._active.show(orchestrator.under_way.seconds)
        for station in orchestrator.stations:
            self._busy.show(station.work_time.seconds, station=station.name)
            self._waiting.set(station.num_waiting, station=station.name)
        if self._replayed is not None:
            for lost in self._replayed.keeps:
                self._replays.show(self._replayed.replays[lost], lost=lost)
        for called, age_s in self._oldest_calls_s().items():
            self._calls.set(age_s, called=called)
        self._num_updates += 1
        self._beats.show(self._num_updates)
        self._first_frame.observe(taken(counts.first_frames_s), FIRST_FRAME_S)
        self._block.observe(taken(counts.blocks_s), BLOCK_S)

    def _in_flight(self) -> float:
        sessions = list(self._orchestrator.sessions.values())
        return float(sum(session.in_flight for session in sessions))

    def _backlog_s(self) -> float:
        sessions = list(self._orchestrator.sessions.values())
        return float(sum(session.blocks_owed * session.block_s for session in sessions))

    def _unread(self) -> float:
        sessions = list(self._orchestrator.sessions.values())
        return float(sum(session.num_unread for session in sessions))

    def _replay_bytes(self) -> float:
        return 0 if self._replayed is None else self._replayed.bytes_kept


class CacheSize:
    """Of one model that holds sessions. Each is another process."""

    def __init__(self, model: str, device: Device) -> None:
        self._device = device
        self._bytes = Family(model, "cache_bytes", "Memory of the sessions' caches.", GAUGE)
        self.update()

    def update(self) -> None:
        self._bytes.set(self._device.cache_bytes)


def taken(queue: deque[float]) -> Iterable[float]:
    """What stands in a queue, which is emptied."""
    while queue:
        yield queue.popleft()
