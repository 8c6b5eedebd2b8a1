"""What a supervisor has done so far, and how Prometheus reads it (text exposition format 0.0.4)."""

import threading
from collections import Counter


class Healing:
    """Counts across restarts of the server; any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the two below
        self._reloads: Counter[str] = Counter()
        self._restarts = 0

    def reloaded(self, model: str) -> None:
        with self._lock:
            self._reloads[model] += 1

    def restarted(self) -> None:
        with self._lock:
            self._restarts += 1

    def exposed(self, models: dict[str, bool], why_not_ready: str) -> str:
        """The page that Prometheus scrapes. `models`: whether each has a process that is well."""
        with self._lock:
            reloads = {model: self._reloads[model] for model in {*models, *self._reloads}}
            restarts = self._restarts
        families = (
            ("ready", "gauge", "Whether a session would be served.", {"": not why_not_ready}),
            ("model_up", "gauge", "Whether a model has a process that is well.", models),
            ("model_reloads_total", "counter", "Times that a model was loaded anew.", reloads),
            (
                "restarts_total",
                "counter",
                "Times that the server was started anew.",
                {"": restarts},
            ),
        )
        lines = []
        for name, kind, description, values in families:
            lines.append(f"# HELP avatar_server_{name} {description}")
            lines.append(f"# TYPE avatar_server_{name} {kind}")
            for model, value in sorted(values.items()):
                labels = f'{{model="{model}"}}' if model else ""
                lines.append(f"avatar_server_{name}{labels} {int(value)}")
        return "\n".join([*lines, ""])
