"""What only live sessions have, on Triton's metrics endpoint."""

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.triton.metrics import COUNTER, GAUGE, HISTOGRAM, Family, taken

ONSET_S = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)


class LiveMetrics:
    """Those of `live_avatar`."""

    def __init__(self, model: str, orchestrator: AvatarOrchestrator) -> None:
        self._orchestrator = orchestrator
        self._degraded = Family(model, "degraded_sessions", "Sessions with a step less.", GAUGE)
        self._degrades = Family(
            model, "degrades_total", "Times that a session lost a step.", COUNTER
        )
        self._onset = Family(
            model, "onset_seconds", "Sound after silence to its first block.", HISTOGRAM
        )

    def update(self) -> None:
        """Bring everything up to date; called by one thread."""
        sessions = list(self._orchestrator.sessions.values())
        self._degraded.set(sum(session.is_degraded for session in sessions))
        self._degrades.show(self._orchestrator.counts.degrades)
        self._onset.observe(taken(self._orchestrator.counts.onsets_s), ONSET_S)
