"""What a public model counts; whoever shows it reads it from another thread."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Since the model was loaded. Written by the control thread alone; the queues are emptied
    by one reader."""

    started: int = 0  # sessions
    refused: int = 0  # STARTs that opened none
    ended: int = 0  # sessions that ended by END
    left: int = 0  # those whose client went away without it
    failed: int = 0  # those that an error ended
    blocks: int = 0  # answered
    late: int = 0  # of them, those for which a viewer had to wait
    frames: int = 0
    interruptions: int = 0
    drifts: int = 0  # times that a session went beyond a limit
    reanchors: int = 0
    degrades: int = 0  # times that a session lost a denoising step
    first_frames_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    """From START to the first block, of sessions that nobody has read yet."""
    blocks_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    """From its sound being complete to a block's answer, likewise."""
    onsets_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    """From the arrival of sound that follows silence to its first block, of live sessions."""

    def add(self, field: str) -> None:
        """One more of these."""
        setattr(self, field, getattr(self, field) + 1)
