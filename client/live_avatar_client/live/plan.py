"""The clock of a live conversation: when a block starts, with which sound, and which frame is shown
at each tick. Plain numbers; whoever drives it says what time it is.

Frame n of the stream hears samples 640 n … 640 n + 639. Tick k is at t0 + k / 25. Where every frame
is in time, ticks and frames go in step:

    tick       7    8    9    9+1                                     k
    frame      7    8    8    23   (8 is held: 9 was late; 10 to 22 were idle and gave way)

A block starts when its first frame is due in `lead_s`; that is when its sound is taken: speech if
there is some, else exact zeros. So nothing is rendered ahead of the viewer, and speech that comes
to an idle face has at most the block that is being shown before it. Even that gives way: the next
block starts at once, and when it comes the show goes on with it.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from live_avatar_client.live.mirror import SILENCE, Mirror, Sent
from live_avatar_client.live.speech import Speech
from live_avatar_client.live.statistics import Counts
from live_avatar_client.protocol import FPS, SAMPLES_PER_FRAME, Array

FRAME_S = 1 / FPS
MAX_LEAD_S = 5.0
"""A server that needs longer for a block is slower than real time, and no lead helps."""
_ROOM_S = 0.02  # between a block's coming and its being due
_RELIEF = 0.98  # per block: what one slow block asked for is forgotten in half a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Frames `begin` … `end` − 1 are left out, once the block with `end` has come."""

    begin: int
    end: int
    expected_s: float  # when frame `end` should be shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a tick shows: frame `frame` of the stream with its sound, or the one before again."""

    tick: int
    time_s: float
    frame: int
    sent: Sent
    is_held: bool


class Plan:
    """`lead_s` is the least lead: what blocks took lately may ask for more. `frames_per_block` and
    `look_ahead`, both in frames, are the server's."""

    def __init__(self, now_s: float, *, lead_s: float, frames_per_block: int, look_ahead: int):
        self.frames_per_block, self.look_ahead = frames_per_block, look_ahead
        self.lead_s = self._least_lead_s = lead_s
        self.generation = 0
        self.counts = Counts()
        self.t0_s: float | None = None
        """When the first frame was shown; None before."""
        self._opened_s = now_s
        self._speech, self._mirror = Speech(), Mirror()
        self._begun_s: float | None = None  # when the speech came that ends the face's silence
        self._is_urgent = False  # the face still speaks what was interrupted
        self._num_started = self._num_received = 0  # blocks
        self._started_s: deque[float] = deque()  # of blocks under way
        self._ticks = 0
        self._is_late = False
        self._cuts: deque[Cut] = deque()
        self._generation_shown = 0

    @property
    def queued_s(self) -> float:
        return self._speech.seconds

    @property
    def is_silent(self) -> bool:
        """Whether nothing is to be said, nor what was sent still to be shown."""
        return not len(self._speech) and self._mirror.is_silent

    @property
    def position(self) -> int:
        """The stream's next frame to be shown."""
        return self._mirror.position

    def feed(self, samples: Array, now_s: float) -> None:
        """Add int16 [n] to what is to be said; ValueError beyond `MAX_QUEUED_S`."""
        was_silent = self.is_silent
        self._speech.append(samples, now_s)
        if was_silent and len(samples):
            self._begun_s = now_s

    def flush(self) -> None:
        """What was fed is whole: a piece shorter than a block need not wait for more."""
        self._speech.finish()

    def interrupt(self) -> int:
        """Drop what is to be said, mute what is under way; the new generation."""
        self._is_urgent = self._is_urgent or not self._mirror.is_silent
        self._speech.clear()
        self._mirror.mute()
        self._begun_s = None
        self.generation += 1
        self.counts.interruptions += 1
        return self.generation

    def next_start_s(self, now_s: float) -> float:
        """When the next block starts, if nothing happens before."""
        in_turn_s = self._time_of(self._next_frame, now_s) - self.lead_s
        if self._is_urgent:
            return min(in_turn_s, self._time_of(self._resume, now_s) - self.lead_s)
        if not len(self._speech):
            return in_turn_s
        cut_s = self._time_of(self._resume, now_s) - self.lead_s
        return min(in_turn_s, max(cut_s, self._speech.ready_s(self._samples_wanted)))

    def start(self, now_s: float) -> Array | None:
        """The sound of the next block, int16 [n], when it is time for it."""
        if now_s < self.next_start_s(now_s):
            return None
        wanted = self._samples_wanted
        is_ready = len(self._speech) and self._speech.ready_s(wanted) <= now_s
        if is_ready or self._is_urgent:
            self._plan_cut(now_s)
        said = self._speech.take(wanted if is_ready or self._mirror.ends_in_speech else 0)
        sound: Array = np.concatenate([said, np.zeros(wanted - len(said), np.int16)])
        self._mirror.append(sound, len(said), self.generation, self._begun_s)
        if len(said):
            self._begun_s = None
        self._num_started += 1
        self._started_s.append(now_s)
        self._is_urgent = False
        return sound

    def received(self, num_frames: int, now_s: float) -> None:
        """The next block has come; ValueError if it is not of the size that was planned."""
        if num_frames != self.frames_per_block:
            raise ValueError(
                f"the server's blocks have {num_frames} frames, this session was told "
                f"{self.frames_per_block}: give frames_per_block={num_frames}"
            )
        took_s = now_s - self._started_s.popleft()
        if self.t0_s is None:  # block 0, which waited for START
            self.t0_s = now_s
        else:
            self.counts.received(self._time_of(self._first_shown, now_s) - now_s)
            kept_s = self._least_lead_s + (self.lead_s - self._least_lead_s) * _RELIEF
            self.lead_s = max(kept_s, min(took_s + _ROOM_S, MAX_LEAD_S))
        self._num_received += 1

    def show(self, now_s: float) -> Shown | None:
        """What the next tick shows, when it is time for it."""
        if self.t0_s is None or now_s < self.next_tick_s:
            return None
        time_s, tick = self.next_tick_s, self._ticks
        self._ticks += 1
        self.counts.frames += 1
        self._cut()
        frame = self.position
        if frame >= self._frames_received:
            self.counts.late += not self._is_late
            self.counts.held += 1
            self._is_late = True
            sent = Sent(sound=SILENCE, generation=self._generation_shown, is_speech=False)
            return Shown(tick=tick, time_s=time_s, frame=frame - 1, sent=sent, is_held=True)
        self._is_late = False
        sent = self._mirror.take()
        self._generation_shown = sent.generation
        if sent.begun_s is not None:
            self.counts.began_to_speak(time_s - sent.begun_s)
        return Shown(tick=tick, time_s=time_s, frame=frame, sent=sent, is_held=False)

    @property
    def next_tick_s(self) -> float:
        """When the next frame is shown; as things look, before the first one."""
        if self.t0_s is None:
            return self._opened_s + self.lead_s
        return self.t0_s + self._ticks / FPS

    @property
    def _next_frame(self) -> int:
        return self._num_started * self.frames_per_block

    @property
    def _frames_received(self) -> int:
        return self._num_received * self.frames_per_block

    @property
    def _first_shown(self) -> int:
        """The first frame of the block that comes next which is not left out."""
        first = self._frames_received
        ends = (cut.end for cut in self._cuts if cut.end < first + self.frames_per_block)
        return max([first, *ends])

    @property
    def _resume(self) -> int:
        """The first frame that may give way to the next block."""
        return max(self._mirror.last_speech + 1, self.position)

    @property
    def _samples_wanted(self) -> int:
        """What the server lacks to make the next block."""
        frames = self._next_frame + self.frames_per_block + self.look_ahead - self._mirror.end
        return frames * SAMPLES_PER_FRAME

    def _time_of(self, frame: int, now_s: float) -> float:
        """When a frame will be shown if all that was started comes in time."""
        time_s, at = max(self.next_tick_s, now_s), self.position
        for cut in self._cuts:
            if frame < cut.end:
                break
            if cut.end <= at:
                continue
            time_s = max(time_s + max(cut.begin - at, 0) * FRAME_S, cut.expected_s)
            at = cut.end
        return time_s + (frame - at) * FRAME_S

    def _plan_cut(self, now_s: float) -> None:
        """Let idle and muted frames give way to the block that starts now: to its first frame that
        hears new sound. Those before it are the look-ahead of what was sent."""
        begin, end = self._resume, self._mirror.end
        if begin < end:
            soonest_s = max(now_s, self._time_of(begin, now_s) - self.lead_s)
            self._cuts.append(Cut(begin=begin, end=end, expected_s=soonest_s + self.lead_s))

    def _cut(self) -> None:
        """Leave out what gives way to a block that has come."""
        while self._cuts:
            cut = self._cuts[0]
            if self.position < cut.end:
                if self.position < cut.begin or self._frames_received <= cut.end:
                    return
                self.counts.skipped += self._mirror.skip_to(cut.end)
            self._cuts.popleft()
