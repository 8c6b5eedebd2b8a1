"""A gate for microphones: what is below a level is no speech, so that the face comes to rest."""

from collections import deque

import numpy as np

from live_avatar_client.protocol import SAMPLE_RATE, Array

WINDOW = SAMPLE_RATE // 100  # samples; the level is that of 10 ms
HOLD_S = 0.4
"""It stays open so long after the last loud window: soft ends of words and short pauses pass."""
BEFORE_S = 0.06
"""So much of what came before passes, too, when it opens: soft beginnings of words."""


class Gate:
    """`level_db`: root mean square of 10 ms below which sound is no speech, in dB of full scale."""

    def __init__(self, level_db: float) -> None:
        self._least = 32768 * 10 ** (level_db / 20)
        self._rest = np.empty(0, np.int16)  # less than a window
        self._before: deque[Array] = deque(maxlen=round(BEFORE_S * SAMPLE_RATE / WINDOW))
        self._windows_left = 0

    @property
    def is_open(self) -> bool:
        return self._windows_left > 0

    def pass_on(self, samples: Array) -> Array:
        """What passes of the next int16 [n]; up to 10 ms are kept back until their window is full.
        What does not pass is left out: the clock of the conversation puts zeros there."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) - len(samples) % WINDOW
        self._rest = samples[whole:]
        passed = [np.empty(0, np.int16)]
        for begin in range(0, whole, WINDOW):
            window = samples[begin : begin + WINDOW]
            if np.sqrt(np.mean(np.square(window, dtype=np.float64))) >= self._least:
                self._windows_left = round(HOLD_S * SAMPLE_RATE / WINDOW)
            if self.is_open:
                passed += [*self._before, window]
                self._before.clear()
                self._windows_left -= 1
            else:
                self._before.append(window)
        return np.concatenate(passed)
