"""How far the worst session has drifted, on Triton's metrics endpoint."""

from typing import Any

from pipeline.sessions.control import Control
from pipeline.sessions.drift import Distances
from pipeline.triton.metrics import COUNTER, GAUGE, Family


class DriftMetrics:
    """Those of one public model that watches drift. A session's id is in the log, not here."""

    def __init__(self, model: str, orchestrator: Control[Any], limits: Distances) -> None:
        self._orchestrator = orchestrator
        self._worst = Family(model, "drift", "Smoothed distance of the worst session.", GAUGE)
        self._limit = Family(model, "drift_limit", "What is too far.", GAUGE)
        self._drifted = Family(model, "sessions_drifted", "Sessions beyond a limit.", GAUGE)
        self._drifts = Family(
            model, "drifts_total", "Times that a session went beyond a limit.", COUNTER
        )
        self._reanchors = Family(
            model, "reanchors_total", "Times that a session was re-anchored.", COUNTER
        )
        for name, value in zip(Distances._fields, limits, strict=True):
            self._limit.set(value, distance=name)

    def update(self) -> None:
        """Bring everything up to date; called by one thread."""
        sessions = list(self._orchestrator.sessions.values())
        watched = [session.drift for session in sessions if session.drift is not None]
        seen = [drift.distances for drift in watched]
        for name in Distances._fields:
            worst = max((getattr(distances, name) for distances in seen), default=0.0)
            self._worst.set(worst, distance=name)
        self._drifted.set(sum(drift.is_beyond for drift in watched))
        self._drifts.show(self._orchestrator.counts.drifts)
        self._reanchors.show(self._orchestrator.counts.reanchors)
