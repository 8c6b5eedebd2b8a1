"""When sound begins after silence, and how long it takes until it is seen."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

SILENCE_S = 0.2
"""So long a run of zeros is a silence; shorter ones stand between words."""


class Onsets:
    """Of one session. Times are of one clock, in seconds."""

    def __init__(self, samples_per_block: int, sample_rate: int) -> None:
        self._samples_per_block = samples_per_block
        self._silence = SILENCE_S * sample_rate
        self._zeros = 0.0  # samples since the last sound
        self._waiting: deque[tuple[int, float]] = deque()  # first block that hears it, when it came

    def append(self, samples: NDArray[Any], position: int, now_s: float) -> None:
        """Sound [n] came, zero where it is silent, the first of it at `position` of the stream. At
        most one onset is taken of it: what follows a silence in between was sent ahead, and nobody
        waits for it."""
        heard = np.flatnonzero(samples)
        if len(heard) == 0:
            self._zeros += len(samples)
            return
        first, last = int(heard[0]), int(heard[-1])
        if self._zeros + first >= self._silence:
            self._waiting.append(((position + first) // self._samples_per_block, now_s))
        self._zeros = float(len(samples) - 1 - last)

    def restart(self, block: int) -> None:
        """The sound from `block` on is withdrawn, and what comes next is an onset."""
        self._waiting = deque(one for one in self._waiting if one[0] < block)
        self._zeros = float("inf")

    def seen(self, block: int, now_s: float) -> Iterator[float]:
        """Seconds from the arrival of each onset that `block`, which is answered now, hears
        first."""
        while self._waiting and self._waiting[0][0] <= block:
            yield now_s - self._waiting.popleft()[1]
