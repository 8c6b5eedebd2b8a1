"""What a stream felt like to its viewer: time to the first frame, speed, and lateness."""

from live_avatar_client.protocol import FPS, Block


class Figures:
    """Counts over the blocks of one stream that is shown at `rate` frames a second.

    `started_s` is `perf_counter()` before connecting. `late_frames` are those that were missing at
    the moment when a player that started at the first arrival needed them.
    """

    def __init__(self, *, started_s: float, rate: int = FPS) -> None:
        self.started_s, self.rate = started_s, rate
        self.num_blocks = self.num_frames = self.late_frames = self._first_frames = 0
        self.max_lateness_ms = self._first_s = self._last_s = 0.0

    def add(self, block: Block) -> None:
        """Enter one block, in order."""
        if not self.num_blocks:
            self._first_s, self._first_frames = block.received_s, len(block.frames)
        for frame in range(block.frame_index, block.frame_index + len(block.frames)):
            lateness_s = block.received_s - (self._first_s + frame / self.rate)
            if lateness_s > 0 and frame:
                self.late_frames += 1
                self.max_lateness_ms = max(self.max_lateness_ms, 1000 * lateness_s)
        self.num_blocks += 1
        self.num_frames += len(block.frames)
        self._last_s = block.received_s

    @property
    def ttff_ms(self) -> float | None:
        """From before connecting to the arrival of the first frames; None before that."""
        return 1000 * (self._first_s - self.started_s) if self.num_blocks else None

    @property
    def fps(self) -> float | None:
        """Frames per second after the first block; None until a second of video came after it. A
        full pipeline hands out the next blocks at once."""
        elapsed_s, num_frames = self._last_s - self._first_s, self.num_frames - self._first_frames
        return num_frames / elapsed_s if elapsed_s > 0 and num_frames >= self.rate else None

    @property
    def realtime_factor(self) -> float | None:
        """Video seconds made per second, above 1 is faster than the viewer."""
        return None if self.fps is None else self.fps / self.rate

    def in_words(self) -> str:
        """Short enough for a terminal of 80 columns, bar and time included; x1: at real time."""
        words = [] if self.ttff_ms is None else [f"first frame {self.ttff_ms:.0f} ms"]
        if self.fps is not None:
            words += [f"{self.fps:.1f} fps", f"x{self.fps / self.rate:.2f}"]
        return "  ".join([*words, *([f"{self.late_frames} late"] if self.late_frames else [])])

    def summary(self) -> dict[str, float | int | None]:
        """All figures, rounded, under the names of the `--json` line."""
        return {
            "ttff_ms": _rounded(self.ttff_ms),
            "fps": _rounded(self.fps),
            "realtime_factor": _rounded(self.realtime_factor, 3),
            "blocks": self.num_blocks,
            "frames": self.num_frames,
            "seconds": round(self.num_frames / self.rate, 2),
            "wall_s": _rounded(self._last_s - self.started_s, 3) if self.num_blocks else None,
            "late_frames": self.late_frames,
            "max_lateness_ms": _rounded(self.max_lateness_ms),
        }


def _rounded(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)
