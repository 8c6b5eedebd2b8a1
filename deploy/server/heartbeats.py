"""Models that live and do not answer: a call that never returns, a public model that has stopped.

The public models tell both on the metrics page: for how long the oldest call to each model has been
under way, and a count that goes up twice a second.
"""

import re

CALL_S = 60.0
"""No call takes so long: at 14B a step takes half a second, and START some seconds."""
BEAT_S = 20.0
"""A public model counts twice a second, but not while it loads."""
_SAMPLE = re.compile(r"(avatar_call_seconds|avatar_heartbeats_total)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Heartbeats:
    """Of one server; asked again and again."""

    def __init__(self) -> None:
        self._beats: dict[str, tuple[float, float]] = {}  # model -> count, since when

    def silent(self, page: str, now_s: float) -> dict[str, str]:
        """Models that are to be ended, and why, by a metrics page and the time it came."""
        found = {}
        for name, labels, value in _SAMPLE.findall(page):
            label, number = dict(_LABEL.findall(labels)), float(value)
            if name == "avatar_call_seconds":
                if number > CALL_S:
                    found[label["called"]] = f"has not answered for {number:.0f} s"
                continue
            model = label["model"]
            count, since_s = self._beats.get(model, (-1.0, now_s))
            if number != count:
                self._beats[model] = (number, now_s)
            elif now_s - since_s > BEAT_S:
                found[model] = f"has stopped for {now_s - since_s:.0f} s"
        for model in found:
            self.forget(model)
        return found

    def forget(self, model: str) -> None:
        """What was seen of it: it begins anew."""
        self._beats.pop(model, None)
