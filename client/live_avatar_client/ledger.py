"""The books of a session: what was sent, what came back, what the reader has taken, and when the
sound has run out.

Plain numbers and queues; `Exchange` guards them with its lock, and owns the clock.
"""

import dataclasses
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from live_avatar_client.protocol import SAMPLE_RATE, SAMPLES_PER_FRAME, Array, Block

PAUSE_S = 0.4
"""So long may sound be late before it counts as a pause: less than a block's 0.48 s, for which the
server holds the last words of a voice that falls silent."""
STEP_S = 0.12  # a pause is fed in pieces of this length, three frames
FRAME_S = SAMPLES_PER_FRAME / SAMPLE_RATE
_LONGEST_S = 1.0


class Mirror:
    """The sound that was sent, kept until the frames that show it come back."""

    def __init__(self) -> None:
        self._sound: Array | None = None

    def __bool__(self) -> bool:
        return self._sound is not None and len(self._sound) > 0

    def append(self, sound: Array) -> None:
        """Keep float32 or int16 [samples] that went out."""
        unit = sound / np.float32(32768) if sound.dtype == np.int16 else sound
        # Always a copy: microphones fill one buffer again and again.
        before = np.empty(0, np.float32) if self._sound is None else self._sound
        self._sound = np.concatenate([before, unit])

    def take(self, num_samples: int) -> Array | None:
        """The oldest samples, float32 [num_samples] in [-1, 1], silence where nothing was sent.
        None in a session that got no sound (but features in its place)."""
        if self._sound is None:
            return None
        taken, self._sound = self._sound[:num_samples], self._sound[num_samples:]
        return np.pad(taken, (0, num_samples - len(taken)))

    def take_rest(self) -> Array:
        """All that is kept, float32 [samples] in [-1, 1]."""
        rest, self._sound = self._sound, None
        return np.empty(0, np.float32) if rest is None else rest


@dataclass(slots=True, kw_only=True)
class Ledger:
    """`max_ahead` samples may be sent before the frames that answer them came back."""

    max_ahead: int
    num_sent: int = 0  # requests sent
    num_open: int = 0  # requests whose final response is still owed, but for START's
    is_held: bool = False
    """START's final response is owed, too: it comes when the session has ended."""
    samples_sent: int = 0
    blocks: deque[Block] = field(default_factory=deque)  # received, not yet taken
    num_blocks: int = 0
    generation: int = 0  # interruptions sent
    frames_received: int = 0
    frames_taken: int = 0
    finished: bool = False  # END was sent
    mirror: Mirror = field(default_factory=Mirror)
    first_block: int = 0  # the sequence's block 0, by our count: a session may have begun anew
    first_frame: int = 0
    _newest_frame: int = 0  # the first of the block received last
    _newest_end: int = 0
    _is_taken_back: bool = False

    def sent(self, sound: Array | None, *, start: bool, end: bool) -> None:
        """Enter a request with its sound [samples]; `start` is the first one, `end` the last."""
        self.num_sent += 1
        if start:
            self.is_held = True
        else:
            self.num_open += 1
        if sound is not None:
            self.samples_sent += len(sound)
            self.mirror.append(sound)
        self.finished = end

    def received(self, block: Block) -> None:
        """Enter a block; AvatarError when one is missing, doubled or out of order."""
        block = dataclasses.replace(
            block,
            block=block.block + self.first_block,
            frame_index=block.frame_index + self.first_frame,
        )
        block.check_order(self.num_blocks, self.frames_received)
        self._newest_end = self.frames_received + len(block.frames)
        self._is_taken_back = self.is_old(block)
        if not self._is_taken_back:
            self._newest_frame = self.frames_received
            self.num_blocks += 1
            self.frames_received = self._newest_end
        sound = self.mirror.take(len(block.frames) * SAMPLES_PER_FRAME)
        self.blocks.append(dataclasses.replace(block, audio=sound))

    def is_old(self, block: Block) -> bool:
        """Whether a block was made before the last interruption was heard: it will come again."""
        return block.generation < self.generation

    def interrupted(self, block: int) -> None:
        """The newest block or the next, `block`, is made of the sound that is sent from now on."""
        self.generation += 1
        if block < self.num_blocks:
            self.num_blocks -= 1
            self.frames_received, self._is_taken_back = self._newest_frame, True
        self.samples_sent = self.frames_received * SAMPLES_PER_FRAME
        self.mirror = Mirror()

    def begin_anew(self) -> Array:
        """The server is lost, and another sequence follows, which begins with the next block. The
        sound that no block has answered, float32 [samples]: it counts as not sent. A block that was
        to come again has come once, and that has to do."""
        if self._is_taken_back:
            self.num_blocks += 1
            self.frames_received, self._is_taken_back = self._newest_end, False
        self.first_block, self.first_frame = self.num_blocks, self.frames_received
        self.samples_sent = self.frames_received * SAMPLES_PER_FRAME
        self.num_sent = self.num_open = self.generation = 0
        self.is_held = self.finished = False
        return self.mirror.take_rest()

    def answered(self, request_id: str) -> None:
        """Enter the final response to a request; "0" is START, an error may bear no id."""
        if request_id == "0":
            self.is_held = False
        else:
            self.num_open = max(0, self.num_open - 1)

    def take(self) -> Block:
        """Hand out the oldest block that nobody has taken."""
        block = self.blocks.popleft()
        self.frames_taken += len(block.frames)
        return block

    @property
    def num_taken(self) -> int:
        """Blocks of this sequence that the reader has."""
        return max(0, self.num_blocks - len(self.blocks) - self.first_block)

    def has_room(self, num_samples: int, *, until_taken: bool) -> bool:
        """Whether so many more samples may go out. With `until_taken`, frames that nobody has
        taken yet count as unanswered. When nothing is under way no answer will make room: whatever
        comes next may go.
        """
        answered = self.frames_taken if until_taken else self.frames_received
        ahead = self.samples_sent + num_samples - answered * SAMPLES_PER_FRAME
        nothing_under_way = not self.num_open and not (until_taken and self.blocks)
        return ahead <= self.max_ahead or nothing_under_way

    @property
    def is_complete(self) -> bool:
        """END was sent and every request has had its final response."""
        return self.finished and not self.num_open and not self.is_held


@dataclass(slots=True, kw_only=True)
class Pauses:
    """When a voice pauses, and how much silence keeps the face alive. Times are seconds of one
    monotonic clock. `is_fed`: whether pauses are filled at all."""

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
