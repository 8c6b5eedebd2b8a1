"""How long something is in use, by one or several at once."""

import threading
import time
from collections.abc import Callable


class Occupancy:
    """Seconds in which at least one was there; any thread may `enter`, `leave` and ask."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards the three below
        self._present = 0
        self._since_s = 0.0
        self._past_s = 0.0

    def enter(self) -> None:
        with self._lock:
            if self._present == 0:
                self._since_s = self._clock()
            self._present += 1

    def leave(self) -> None:
        with self._lock:
            self._present -= 1
            if self._present == 0:
                self._past_s += self._clock() - self._since_s

    @property
    def seconds(self) -> float:
        """So far, the time since the last `enter` counted too."""
        with self._lock:
            return self._past_s + (self._clock() - self._since_s if self._present else 0.0)
