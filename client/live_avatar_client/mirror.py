"""What was sent, kept until the frames that show it come back."""

from __future__ import annotations

from collections import deque

import numpy as np


class Mirror:
    """A queue of sound; its length is that of what the server has not answered yet."""

    def __init__(self) -> None:
        self._pieces: deque[np.ndarray] = deque()
        self._is_used = False

    def append(self, sound: np.ndarray) -> None:
        """Keep float32 or int16 [samples] that went out."""
        self._pieces.append(sound.copy())  # microphones fill one buffer again and again
        self._is_used = True

    def take(self, num_samples: int) -> np.ndarray | None:
        """The oldest samples, float32 [num_samples] in [-1, 1], silence where nothing was sent.

        None in a session that got no sound (but features in its place).
        """
        if not self._is_used:
            return None
        taken, done = np.zeros(num_samples, np.float32), 0
        while self._pieces and done < num_samples:
            piece = self._pieces.popleft()
            part, rest = piece[: num_samples - done], piece[num_samples - done :]
            taken[done : done + len(part)] = part / 32768 if part.dtype == np.int16 else part
            done += len(part)
            if len(rest):
                self._pieces.appendleft(rest)
        return taken
