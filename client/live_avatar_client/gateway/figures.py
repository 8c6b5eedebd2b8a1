"""What the page's panel shows of the sending side."""

import dataclasses
import math
from collections import deque
from typing import Any

import numpy as np

from live_avatar_client.protocol import FPS

_WINDOW = 4 * FPS
"""Frames that jitter and rate are counted over."""


class Figures:
    """Of the frames of one visit; times are seconds of `time.monotonic`."""

    def __init__(self) -> None:
        self._sent_s: deque[float] = deque(maxlen=_WINDOW)
        self._behind_s: deque[float] = deque(maxlen=_WINDOW)

    def sent(self, due_s: float, now_s: float) -> None:
        """Enter a frame that was due then and has left now."""
        self._sent_s.append(now_s)
        self._behind_s.append(now_s - due_s)

    def told(self, of_session: Any) -> dict[str, Any]:
        """As JSON: the session's own statistics (a dataclass), and those of sending."""
        span_s = self._sent_s[-1] - self._sent_s[0] if len(self._sent_s) > 1 else 0.0
        own = {"sent_fps": (len(self._sent_s) - 1) / span_s if span_s else None}
        if self._behind_s:
            p50, p99 = np.percentile(self._behind_s, [50, 99])
            own["jitter_ms"] = 1e3 * float(p99 - p50)
        return {
            name: _plain(value) for name, value in (dataclasses.asdict(of_session) | own).items()
        }


def _plain(value: Any) -> Any:
    """What JSON can say: no nan, no types of numpy, and of long lists the newest entries."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value[-20:]]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
