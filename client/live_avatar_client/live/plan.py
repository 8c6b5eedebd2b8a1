"""The clock of a live conversation: when a block starts, with which sound, and which frame is shown
at each tick. Plain numbers; whoever drives it says what time it is.

Frame n of the stream hears samples 640 n … 640 n + 639. Tick k is at t0 + k / 25. Where every frame
is in time, ticks and frames go in step:

    tick       7    8    9   10                                       k
    frame      7    8    8    9    (8 is held: 9 was late)

A block starts when its first frame is due in `lead_s`; that is when its sound is taken: speech if
there is some, else exact zeros. So nothing is rendered ahead of the viewer. When speech comes to an
idle face, or an interruption to one that speaks, the rest of what it has is given up:

    its newest block is there, and        that block is made again, with other sound from the first
    is at most just begun to be shown     frame on that will be there in time
    it is still being made, and           the same; what the server has of it is given up
    another one would be in time
    it will be there soon                 it is waited for, and made again
    else                                  the next block starts at once; of its frames, the first
                                          ones are the look-ahead of what was sent before, behind
                                          an interruption silence

Frames before those with new sound are left out when these come: few, or most of a block. Without
`cuts` none is: what can't be made again waits for its turn.
"""

import math
from collections import deque

import numpy as np

from live_avatar_client.live.cuts import Cut, Cuts
from live_avatar_client.live.mirror import SILENCE, Mirror, Sent
from live_avatar_client.live.orders import Order, Shown
from live_avatar_client.live.pace import ROOM_S, Pace
from live_avatar_client.live.speech import Speech
from live_avatar_client.live.statistics import Counts
from live_avatar_client.protocol import FPS, SAMPLES_PER_FRAME, Array

FRAME_S = 1 / FPS
_SOON = 0.6  # of that time: the rest of a block is waited for


class Plan:
    """`lead_s` is the least lead: what blocks took lately may ask for more. `frames_per_block` and
    `look_ahead`, both in frames, are the server's. `cuts`: idle frames may be left out."""

    def __init__(
        self,
        now_s: float,
        *,
        lead_s: float,
        frames_per_block: int,
        look_ahead: int,
        cuts: bool = True,
    ) -> None:
        self.frames_per_block, self.look_ahead = frames_per_block, look_ahead
        self._pace = Pace(lead_s)
        self.generation = 0
        self.counts = Counts()
        self.t0_s: float | None = None
        """When the first frame was shown; None before."""
        self._opened_s = now_s
        self._speech, self._mirror, self._cuts = Speech(), Mirror(), Cuts()
        self._may_cut = cuts
        self._begun_s: float | None = None  # when the speech came that ends the face's silence
        self._is_urgent = False  # the face still speaks what was interrupted
        self._num_started = self._num_received = 0  # blocks
        self._under_way: deque[float] = deque()  # when what is still to come was ordered
        self._newest: Array = np.empty(0, np.int16)  # what the newest block hears
        self._changed: int | None = None  # from this frame on, the newest block is being made again
        self._given_up: int | None = None
        """What becomes `_changed` if a block comes nevertheless that the server was to give up."""
        self._ticks = 0
        self._is_late = False
        self._is_untimed = False  # the next block waits for START
        self._generation_shown = 0
        self._is_speech_shown = False

    @property
    def lead_s(self) -> float:
        """How long before its first frame is due a block starts."""
        return self._pace.lead_s

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
        self._is_speech_shown = False
        self._begun_s = None
        self.generation += 1
        self.counts.interruptions += 1
        return self.generation

    def begin_anew(self) -> None:
        """The server is lost with all that was under way. Its successor begins with the first block
        that has not come; speech that is not to be shown before waits to be said again."""
        first = self._frames_received
        lost = [sent for sent in self._mirror.give_back(first) if sent.is_speech]
        if lost:
            self._speech.put_back(np.concatenate([sent.sound for sent in lost]))
            self._begun_s = lost[0].begun_s or self._begun_s
        self._num_started = self._num_received
        silence = np.zeros((self._next_frame - first) * SAMPLES_PER_FRAME, np.int16)
        self._mirror.put(first, silence, 0, self.generation, None)
        self._cuts, self._changed, self._newest = Cuts(), None, np.empty(0, np.int16)
        self._given_up = None
        self._under_way.clear()
        self._is_untimed = True

    def next_start_s(self, now_s: float) -> float:
        """When the next order is due, if nothing happens before."""
        in_turn_s = self._time_of(self._next_frame, now_s) - self.lead_s
        if self._changeable(now_s) is None and (not self._may_cut or self._is_there_soon(now_s)):
            return in_turn_s
        soonest_s = self._time_of(self._resume, now_s) - self.lead_s
        if self._is_urgent:
            return min(in_turn_s, soonest_s)
        if not len(self._speech):
            return in_turn_s
        return min(in_turn_s, max(soonest_s, self._ready_s))

    def start(self, now_s: float) -> Order | None:
        """What the server is to make, when it is time for it."""
        if now_s < self.next_start_s(now_s):
            return None
        is_ready = len(self._speech) > 0 and self._ready_s <= now_s
        if is_ready or self._is_urgent:
            frame = self._changeable(now_s)
            if frame is not None:
                return self._make_again(frame, now_s, speaks=is_ready)
            soonest_s = max(now_s, self._time_of(self._resume, now_s) - self.lead_s)
            end = self._next_frame + self.frames_per_block
            self._leave_out(self._mirror.end, end, soonest_s + self.lead_s)
        return self._make_next(now_s, speaks=is_ready or self._mirror.ends_in_speech)

    def received(self, num_frames: int, now_s: float, *, is_old: bool = False) -> None:
        """What was ordered first has come, or `is_old`, which it was to replace; ValueError if its
        size is not the one planned."""
        if num_frames != self.frames_per_block:
            raise ValueError(
                f"the server's blocks have {num_frames} frames, this session was told "
                f"{self.frames_per_block}: give frames_per_block={num_frames}"
            )
        if is_old:
            self._num_received += self._changed is None
            self._changed = self._given_up
            return
        took_s = now_s - self._under_way.popleft()
        if self.t0_s is None:  # block 0, which waited for START
            self.t0_s = now_s
        elif self._is_untimed:
            self._is_untimed = False
        else:
            self.counts.received(self._time_of(self._first_awaited, now_s) - now_s)
            is_again = self._changed is not None or self._given_up is not None
            self._pace.received(took_s, is_again=is_again)
        if self._changed is None:
            self._num_received += 1
        self._changed = self._given_up = None

    def show(self, now_s: float) -> Shown | None:
        """What the next tick shows, when it is time for it."""
        if self.t0_s is None or now_s < self.next_tick_s:
            return None
        time_s, tick = self.next_tick_s, self._ticks
        self._ticks += 1
        self.counts.frames += 1
        frame = self._cuts.after(self.position, self._frames_received, time_s)
        self.counts.skipped += self._mirror.skip_to(frame)
        if frame >= self._frames_received:
            self.counts.late += not self._is_late
            self.counts.held += 1
            self._is_late = True
            sent = Sent(
                sound=SILENCE, generation=self._generation_shown, is_speech=self._is_speech_shown
            )
            return Shown(tick=tick, time_s=time_s, frame=frame - 1, sent=sent, is_held=True)
        self._is_late = False
        sent = self._mirror.take()
        self._generation_shown, self._is_speech_shown = sent.generation, sent.is_speech
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
        """Frames that can be shown, from the stream's beginning on."""
        frames = self._num_received * self.frames_per_block
        return frames if self._changed is None else self._changed

    @property
    def _first_awaited(self) -> int:
        """The first frame that is shown of what comes next."""
        if self._changed is not None:
            return self._changed
        first = self._num_received * self.frames_per_block
        return self._cuts.first_shown(first, first + self.frames_per_block)

    @property
    def _resume(self) -> int:
        """The first frame that may give way to other sound."""
        return max(self._mirror.last_speech + 1, self.position)

    @property
    def _ready_s(self) -> float:
        """When the speech that waits may begin. What comes at real time would be torn before its
        second block, if it began with less than a block, its look-ahead, and what is spoken in the
        time that the server takes less than the lead: so much sooner the second one starts."""
        frames = self.frames_per_block + self.look_ahead
        early = max(math.ceil((self.lead_s - self._pace.usual_s) * FPS), 1) + 1
        return self._speech.ready_s(
            frames * SAMPLES_PER_FRAME, (frames + early) * SAMPLES_PER_FRAME
        )

    def _time_of(self, frame: int, now_s: float) -> float:
        """When a frame will be shown if all that was ordered comes in time."""
        return self._cuts.time_of(frame, self.position, max(self.next_tick_s, now_s))

    def _changeable(self, now_s: float) -> int | None:
        """The first frame that may give way if the newest block is made again now. None where a
        lost server made it, while it is still to come and another one would be late, and where its
        rest would not leave the next one its time: then the server would have two to make at once,
        and words would be torn."""
        if self.t0_s is None or not len(self._newest) or len(self._under_way) > 1:
            return None
        first = max(self._next_frame - self.frames_per_block, self._resume)
        if self._under_way:
            due_s, first = (
                self._time_of(self._first_awaited, now_s),
                max(first, self._first_awaited),
            )
            is_late = due_s < now_s + self._pace.usual_again_s + ROOM_S
            return None if is_late or self._is_untimed or first > self._last else first
        return self._in_time(first, now_s)

    def _is_there_soon(self, now_s: float) -> bool:
        """Whether the newest block is to come, and may be made again then."""
        if not len(self._newest) or len(self._under_way) != 1 or self.t0_s is None:
            return False
        rest_s = max(self._under_way[0] + self._pace.usual_s - now_s, 0.0)
        is_soon = rest_s <= _SOON * self._pace.usual_s
        return is_soon and self._in_time(self._resume, now_s + rest_s) is not None

    def _in_time(self, first: int, now_s: float) -> int | None:
        """From which frame on, `first` or later, the newest block is there if it is made again at
        `now_s`; None if what remains of it is less than what the next one takes."""
        ticks = math.ceil((now_s + self._pace.usual_again_s - self.next_tick_s) * FPS)
        frame = max(self.position + ticks, first)
        return frame if frame <= self._last else None

    @property
    def _last(self) -> int:
        """The frame behind which the newest block has less than what the next one takes."""
        return self._next_frame - math.ceil((self._pace.usual_s + ROOM_S) * FPS)

    def _make_again(self, frame: int, now_s: float, *, speaks: bool) -> Order:
        """The newest block, with other sound from this frame on. Behind an interruption the sound
        before it is silence, too: lips that had spoken would close slowly."""
        block = self._num_started - 1
        kept = (frame - block * self.frames_per_block) * SAMPLES_PER_FRAME
        self._leave_out(frame, self._next_frame, self._time_of(frame, now_s))
        heard = self._newest[:kept] * np.int16(not self._is_urgent)
        new = self._taken(len(self._newest) - kept, speaks=speaks, frame=frame)
        self._newest = np.concatenate([heard, new])
        self.counts.made_again += 1
        if self._under_way:
            self._given_up = frame
            self._under_way.pop()
        else:
            self._changed = frame
        self._under_way.append(now_s)
        return Order(sound=self._newest, interrupt=block)

    def _make_next(self, now_s: float, *, speaks: bool) -> Order:
        """The next block: what the server lacks for it; behind an interruption all of it, since the
        look-ahead that was sent would keep the mouth open for as long. (Not while another one is
        under way: the server may not have begun it. Nor at a server that has nothing yet.)"""
        has_one = len(self._newest) > 0 and not self._under_way
        block, is_urgent = self._num_started, self._is_urgent and has_one
        frames = self._next_frame + self.frames_per_block + self.look_ahead - self._mirror.end
        heard = self._newest[self.frames_per_block * SAMPLES_PER_FRAME :] * np.int16(not is_urgent)
        new = self._taken(frames * SAMPLES_PER_FRAME, speaks=speaks, frame=self._mirror.end)
        self._newest = np.concatenate([heard, new])
        self._num_started += 1
        self._under_way.append(now_s)
        if is_urgent:
            return Order(sound=self._newest, interrupt=block)
        return Order(sound=new, interrupt=None)

    def _taken(self, num_samples: int, *, speaks: bool, frame: int) -> Array:
        """Sound that goes out for `frame` and those behind it: speech, then zeros."""
        said = self._speech.take(num_samples if speaks else 0)
        sound: Array = np.concatenate([said, np.zeros(num_samples - len(said), np.int16)])
        begun_s, self._begun_s = (self._begun_s, None) if len(said) else (None, self._begun_s)
        self._mirror.put(frame, sound, len(said), self.generation, begun_s)
        self._is_urgent = False
        return sound

    def _leave_out(self, end: int, until: int, expected_s: float) -> None:
        """Let idle and muted frames give way to frame `end`, the first that hears the sound that is
        sent now. It may be shown as soon as it is there, if the rest of its block, up to frame
        `until`, leaves the next one its lead."""
        early = (until - end) / FPS >= self.lead_s
        if self._may_cut and self._resume < end:
            self._cuts.append(
                Cut(begin=self._resume, end=end, expected_s=expected_s, may_be_early=early)
            )
