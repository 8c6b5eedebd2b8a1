"""The sound that was sent, a piece for every frame, until the frame is shown."""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from live_avatar_client.protocol import SAMPLES_PER_FRAME, Array

SILENCE = np.zeros(SAMPLES_PER_FRAME, np.int16)
SILENCE.flags.writeable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The sound of one frame, int16 [640], and whose it is."""

    sound: Array
    generation: int
    is_speech: bool
    begun_s: float | None = None
    """When the speech that begins here came, if the face was silent then."""


class Mirror:
    """Frames that were sent and not yet shown; `position` is the stream's index of the oldest."""

    def __init__(self) -> None:
        self.position = 0
        self.last_speech = -1
        """Index of the last frame with speech in all that was sent."""
        self._frames: deque[Sent] = deque()

    @property
    def end(self) -> int:
        """Index of the next frame to be sent."""
        return self.position + len(self._frames)

    @property
    def is_silent(self) -> bool:
        """Whether no frame with speech is still to be shown."""
        return self.last_speech < self.position

    @property
    def ends_in_speech(self) -> bool:
        """Whether the last frame that was sent bears speech."""
        return 0 <= self.last_speech == self.end - 1

    def put(
        self, frame: int, sound: Array, num_speech: int, generation: int, begun_s: float | None
    ) -> None:
        """Enter int16 [640 n] that goes out for `frame` and those behind it, in place of what went
        out for them before. Its first `num_speech` samples are speech."""
        while self.end > frame:
            self._frames.pop()
        for begin in range(0, len(sound), SAMPLES_PER_FRAME):
            is_speech = begin < num_speech
            if is_speech:
                self.last_speech = self.end
            self._frames.append(
                Sent(
                    sound=sound[begin : begin + SAMPLES_PER_FRAME],
                    generation=generation,
                    is_speech=is_speech,
                    begun_s=begun_s if begin == 0 and is_speech else None,
                )
            )

    def give_back(self, frame: int) -> list[Sent]:
        """What went out for `frame` and those behind it, which counts as not sent."""
        kept = max(frame - self.position, 0)
        frames = list(self._frames)
        self._frames = deque(frames[:kept])
        spoken = [self.position + n for n, sent in enumerate(self._frames) if sent.is_speech]
        self.last_speech = max(spoken, default=-1)
        return frames[kept:]

    def take(self) -> Sent:
        """The frame that is shown now."""
        self.position += 1
        return self._frames.popleft()

    def skip_to(self, position: int) -> int:
        """Leave frames out; how many."""
        count = position - self.position
        for _ in range(count):
            self.take()
        return count

    def mute(self) -> None:
        """What is still to be shown is silent from now on."""
        muted = (replace(f, sound=SILENCE, is_speech=False, begun_s=None) for f in self._frames)
        self._frames = deque(muted)
        self.last_speech = -1
