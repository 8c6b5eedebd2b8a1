"""Frames that give way to a block that is still to come."""

from collections import deque
from dataclasses import dataclass

from live_avatar_client.protocol import FPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Frames `begin` … `end` − 1 are left out, once the block with `end` has come. Frame `end` is
    expected to be shown at `expected_s`, and is shown before if `may_be_early`."""

    begin: int
    end: int
    expected_s: float
    may_be_early: bool


class Cuts:
    """Those that were decided and not made yet, in the stream's order."""

    def __init__(self) -> None:
        self._cuts: deque[Cut] = deque()

    def append(self, cut: Cut) -> None:
        self._cuts.append(cut)

    def after(self, position: int, num_frames: int, time_s: float) -> int:
        """The frame that is shown in place of `position` at `time_s` when `num_frames` of the
        stream are there: itself, or the end of a cut that can be made."""
        while self._cuts:
            cut = self._cuts[0]
            if position < cut.end:
                is_there = num_frames > cut.end and position >= cut.begin
                if not is_there or (time_s < cut.expected_s and not cut.may_be_early):
                    break
                position = cut.end
            self._cuts.popleft()
        return position

    def time_of(self, frame: int, position: int, time_s: float) -> float:
        """When a frame will be shown, if `position` is at `time_s` and everything comes in time."""
        for cut in self._cuts:
            if frame < cut.end:
                break
            if position < cut.end:
                time_s = max(time_s + max(cut.begin - position, 0) / FPS, cut.expected_s)
                position = cut.end
        return time_s + (frame - position) / FPS

    def first_shown(self, first: int, end: int) -> int:
        """The first of the frames `first` … `end` − 1 that is not left out."""
        return max([first, *(cut.end for cut in self._cuts if cut.end < end)])
