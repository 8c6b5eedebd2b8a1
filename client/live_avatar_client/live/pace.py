"""How long a server takes for a block, and how long before its time one has to start."""

from collections import deque

import numpy as np

MAX_LEAD_S = 5.0
"""A server that needs longer for a block is slower than real time, and no lead helps."""
ROOM_S = 0.02  # between a block's coming and its being due
_RELIEF = 0.9  # per block: what one slow block asked for is soon forgotten
_TIMED = 16  # blocks whose time tells how long the next one takes
_USUAL = 95  # percentile of these


class Pace:
    """Of the last blocks. `lead_s` is the least lead: a slow block asks for more."""

    def __init__(self, lead_s: float) -> None:
        self.lead_s = self._least_s = lead_s
        self.usual_s = lead_s
        """What nearly every block takes."""
        self._took_s: deque[float] = deque(maxlen=_TIMED)
        self._took_again_s: deque[float] = deque(maxlen=_TIMED)

    @property
    def usual_again_s(self) -> float:
        """What nearly every block takes that is made again."""
        took_s = self._took_again_s
        return float(np.percentile(took_s, _USUAL)) if took_s else self.usual_s

    def received(self, took_s: float, *, is_again: bool = False) -> None:
        """A block has come, so long after it was ordered; `is_again`: made again."""
        (self._took_again_s if is_again else self._took_s).append(took_s)
        if self._took_s:
            self.usual_s = float(np.percentile(self._took_s, _USUAL))
        kept_s = self._least_s + (self.lead_s - self._least_s) * _RELIEF
        self.lead_s = max(kept_s, min(took_s + ROOM_S, MAX_LEAD_S))
