"""How fast a client's requests are taken. Each costs the server half a millisecond of a core,
whatever is in it, and a voice needs fifty a second."""

import math

PER_S, BURST = 250.0, 250
_MOST = 256  # sessions that are remembered; one that is forgotten may begin with a burst again


class Pace:
    """Of all sessions of a model."""

    def __init__(self) -> None:
        self._due_s: dict[int, float] = {}  # when a session's last request was in turn

    def delay_s(self, session: int, now_s: float) -> float:
        """So long is to be waited before the session's next request, which came `now_s`, is taken:
        0 for the first `BURST`, then as long as it takes to keep to `PER_S`."""
        due_s = max(self._due_s.pop(session, -math.inf), now_s - BURST / PER_S) + 1 / PER_S
        self._due_s[session] = due_s
        if len(self._due_s) > _MOST:
            del self._due_s[next(iter(self._due_s))]
        return max(0.0, due_s - now_s)
