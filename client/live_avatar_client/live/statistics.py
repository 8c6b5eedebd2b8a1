"""What a live conversation was like so far."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

_KEPT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Of the newest thousand values; `count` is of all. NaN where there are none."""

    count: int
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float], count: int) -> "Percentiles":
        array = np.fromiter(values, float)
        p50, p95, p99 = np.percentile(array, [50, 95, 99]) if len(array) else [float("nan")] * 3
        return cls(count=count, p50=float(p50), p95=float(p95), p99=float(p99))


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStatistics:
    """Frames are counted at 25 per second, pauses included."""

    first_frame_s: float | None  # from opening; None before the first frame
    frames: int  # presented so far, held ones included
    blocks: int  # received
    late: int  # times that a frame was not there at its moment
    held: int  # frames that showed the picture before them again, because of that
    skipped: int  # frames that gave way to speech or to an interruption
    made_again: int  # blocks that the server made again, with other sound
    dropped: int  # frames that the viewer did not take in time
    interruptions: int
    onset_s: Percentiles  # from `feed` to a silent face until its first frame with speech is shown
    ahead_s: Percentiles  # how long before its first frame's moment a block came; 0 if late
    queued_s: float  # speech that waits to be said
    lead_s: float  # how long before its first frame is due a block is sent at present


@dataclass(slots=True)
class Counts:
    """The figures while they grow."""

    frames: int = 0
    late: int = 0
    held: int = 0
    skipped: int = 0
    made_again: int = 0
    interruptions: int = 0
    num_onsets: int = 0
    num_blocks: int = 0
    onset_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    ahead_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def began_to_speak(self, onset_s: float) -> None:
        self.num_onsets += 1
        self.onset_s.append(onset_s)

    def received(self, ahead_s: float) -> None:
        self.num_blocks += 1
        self.ahead_s.append(ahead_s)
