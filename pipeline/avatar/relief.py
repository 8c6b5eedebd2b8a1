"""Whether live sessions are served with a denoising step less, because blocks come late.

It begins at once and ends slowly. An end that does not last makes the next one wait longer, so a
server that is too full does not go to and fro.
"""

from collections import deque

LATE_BLOCKS, WITHIN_S = 3, 10.0
"""So many late blocks of live sessions, in so many seconds, are a server that can't keep up."""
CALM_S = 30.0
"""So long no block may be late before it ends."""
LONGEST_CALM_S = 480.0  # after ends that did not last; each doubles the wait


class Relief:
    """Fed by one thread, with times of one clock in seconds."""

    def __init__(self) -> None:
        self.is_on = False
        self._late_s: deque[float] = deque(maxlen=LATE_BLOCKS)
        self._ended_s = float("-inf")
        self._calm_s = CALM_S

    def late(self, now_s: float) -> bool:
        """A viewer had to wait for a block; whether relief begins with it."""
        self._late_s.append(now_s)
        if self.is_on or len(self._late_s) < LATE_BLOCKS or now_s - self._late_s[0] > WITHIN_S:
            return False
        lasted = now_s - self._ended_s > self._calm_s
        self._calm_s = CALM_S if lasted else min(2 * self._calm_s, LONGEST_CALM_S)
        self.is_on = True
        return True

    def look(self, now_s: float, num_live: int) -> bool:
        """Whether it ends now: no block was late for long enough, or nobody is left."""
        if not self.is_on or (num_live and now_s - self._late_s[-1] < self._calm_s):
            return False
        self.is_on, self._ended_s = False, now_s
        self._late_s.clear()
        return True
