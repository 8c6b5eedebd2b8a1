"""Pauses of a voice: when the sound has run out, and how much silence keeps the face alive.

Plain numbers; `Exchange` owns the clock and sends what is due.
"""

import math
from dataclasses import dataclass

from live_avatar_client.protocol import SAMPLE_RATE, SAMPLES_PER_FRAME

PAUSE_S = 0.4
"""So long may sound be late before it counts as a pause: less than a block's 0.48 s, for which the
server holds the last words of a voice that falls silent."""
STEP_S = 0.12  # a pause is fed in pieces of this length, three frames
FRAME_S = SAMPLES_PER_FRAME / SAMPLE_RATE
_LONGEST_S = 1.0


@dataclass(slots=True, kw_only=True)
class Pauses:
    """Times are seconds of one monotonic clock. `is_fed`: whether pauses are filled at all."""

    is_fed: bool
    until_s: float | None = None
    """When somebody who listens at real time will have heard all that was sent."""
    is_pause: bool = False

    def sent(self, num_samples: int, now_s: float, *, is_silence: bool = False) -> None:
        """Enter sound, or with `is_silence` what `due` asked for."""
        if not num_samples:
            return
        begin_s = now_s if self.until_s is None else self.until_s
        if not is_silence:  # silence begins where the sound ended
            begin_s = max(begin_s, now_s)
        self.until_s = max(begin_s + num_samples / SAMPLE_RATE, now_s)
        self.is_pause = is_silence

    def due(self, now_s: float) -> int:
        """Samples of silence to send now, whole frames; 0 while the sound lasts. A pause that could
        not be fed for a while is not made up for beyond a second."""
        if not self.is_fed or self.until_s is None:
            return 0
        late_s = now_s - self.until_s
        if late_s < (-FRAME_S if self.is_pause else PAUSE_S):
            return 0
        owed_s = min(late_s, _LONGEST_S) + STEP_S
        return math.ceil(owed_s * SAMPLE_RATE / SAMPLES_PER_FRAME) * SAMPLES_PER_FRAME
