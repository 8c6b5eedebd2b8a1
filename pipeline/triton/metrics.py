"""What a public model counts, on Triton's metrics endpoint.

Names and units follow Prometheus; docs/operations.md lists them. A metric costs 50 microseconds at
each change, so all of them are brought up to date twice a second, by one thread.
"""

from collections.abc import Iterable
from typing import Any

import triton_python_backend_utils as pb

from pipeline.sessions.control import Control

FIRST_FRAME_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
BLOCK_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.48, 0.6, 0.8, 1.2, 2.0, 5.0)

_GAUGE, _COUNTER, _HISTOGRAM = "GAUGE", "COUNTER", "HISTOGRAM"


class Metrics:
    """Those of one public model."""

    def __init__(self, model: str, orchestrator: Control[Any]) -> None:
        self._orchestrator, self._labels = orchestrator, {"model": model}
        self._families: list[Any] = []  # a metric lives as long as its family's object
        make = self._family
        self._sessions = self._metric(make("sessions", "Sessions that are open.", _GAUGE))
        self._places = self._metric(make("places", "Sessions that may be open.", _GAUGE))
        self._in_flight = self._metric(make("blocks_in_flight", "Blocks at the stations.", _GAUGE))
        self._counters = {
            name: self._metric(make(f"{name}_total", what, _COUNTER))
            for name, what in {
                "sessions_started": "Sessions that were opened.",
                "sessions_refused": "STARTs that opened no session.",
                "sessions_failed": "Sessions that ended by an error.",
                "sessions_ended": "Sessions that ended by END.",
                "blocks": "Blocks that were answered.",
                "frames": "Frames that were answered.",
                "interruptions": "Interruptions.",
            }.items()
        }
        self._busy = make("station_busy_seconds_total", "Seconds that a model worked.", _COUNTER)
        self._stations: dict[str, Any] = {}
        self._first_frame = self._metric(
            make("first_frame_seconds", "From START to the first block.", _HISTOGRAM), FIRST_FRAME_S
        )
        self._block = self._metric(
            make("block_seconds", "From a block's sound to its answer.", _HISTOGRAM), BLOCK_S
        )
        self._shown: dict[str, float] = {}

    def update(self) -> None:
        """Bring everything up to date; called by one thread."""
        orchestrator, counts = self._orchestrator, self._orchestrator.counts
        sessions = list(orchestrator.sessions.values())
        self._sessions.set(len(sessions))
        self._places.set(orchestrator.max_sessions)
        self._in_flight.set(sum(session.in_flight for session in sessions))
        values = {
            "sessions_started": counts.started,
            "sessions_refused": counts.refused,
            "sessions_failed": counts.failed,
            "sessions_ended": counts.ended,
            "blocks": counts.blocks,
            "frames": counts.frames,
            "interruptions": counts.interruptions,
        }
        for name, value in values.items():
            self._count(name, self._counters[name], value)
        for station, busy_s in list(counts.busy_s.items()):
            if station not in self._stations:
                labels = {**self._labels, "station": station}
                self._stations[station] = self._busy.Metric(labels=labels)
            self._count(station, self._stations[station], busy_s)
        for queue, histogram in (
            (counts.first_frames_s, self._first_frame),
            (counts.blocks_s, self._block),
        ):
            while queue:
                histogram.observe(queue.popleft())

    def _family(self, name: str, description: str, kind: str) -> Any:
        # The kinds are named here, as Triton adds them once the model's file is imported.
        family = pb.MetricFamily(
            name=f"avatar_{name}", description=description, kind=getattr(pb.MetricFamily, kind)
        )
        self._families.append(family)
        return family

    def _metric(self, family: Any, buckets: Iterable[float] | None = None) -> Any:
        given = {} if buckets is None else {"buckets": list(buckets)}
        return family.Metric(labels=self._labels, **given)

    def _count(self, name: str, metric: Any, value: float) -> None:
        """Counters are told what is added."""
        if added := value - self._shown.get(name, 0):
            metric.increment(added)
            self._shown[name] = value
