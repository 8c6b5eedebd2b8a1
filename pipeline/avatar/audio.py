"""Where a video frame's audio features sit, and the windows of samples a live stream is cut into.
Three clocks meet: video frames (25 per second), the DiT's feature clock of 30 per second, and
wav2vec2's hidden frames, one per HOP samples (50 per second). (docs/method.md section 4)"""

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.config.avatar import PipelineConfig

HOP = 320
"""Samples per hidden frame of wav2vec2: the product of its convolution strides."""
FIELD = 400
"""Samples that its first hidden frame sees."""
FEATURE_RATE = 30
"""Feature frames per second, from which video frames take the nearest."""
VARIANCE_FLOOR = 1e-7
WITHDRAWABLE = 3
"""Blocks whose windows were handed out and may still be withdrawn: the newest that is being made,
and two that wait for it with their audio tokens."""

Samples = NDArray[np.float32]
Places = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Index of a hidden frame, and the weight of the one after it, per video frame."""


def num_hidden_frames(num_samples: int) -> int:
    """Hidden frames of wav2vec2 that so many samples give."""
    return max((num_samples - FIELD) // HOP + 1, 0)


def normalise(samples: Samples, mean: float, variance: float) -> Samples:
    """Zero mean, unit variance, as wav2vec2 was trained; [n] to [1, n]."""
    return ((samples - mean) / math.sqrt(variance + VARIANCE_FLOOR)).astype(np.float32)[None]


def frame_places(
    first: int, count: int, start: int, num_hidden: int, *, fps: int, rate: int
) -> Places:
    """Places of video frames first … first + count - 1 in a window of samples that begins at sample
    `start` and has `num_hidden` hidden frames. A video frame takes the nearest feature frame (half
    to even, as the release), whose time says where between two hidden frames it lies, whatever the
    sound's length. Places outside the window move to its edge."""
    index, weight = [], []
    for frame in range(first, first + count):
        feature = round(frame * FEATURE_RATE / fps)
        # The feature's time in hidden frames from the window's start, times FEATURE_RATE * HOP.
        place = feature * rate - start * FEATURE_RATE
        place = min(max(place, 0), (num_hidden - 1) * FEATURE_RATE * HOP)
        index.append(place // (FEATURE_RATE * HOP))
        weight.append(place % (FEATURE_RATE * HOP) / (FEATURE_RATE * HOP))
    return np.array(index, np.int64), np.array(weight, np.float32)


@dataclass(frozen=True, slots=True)
class Sums:
    """Of the samples of whole video frames from the stream's start, in double precision."""

    end: int = 0  # video frames that were looked at
    counted: int = 0  # those of them that are in the sums
    total: float = 0.0
    squares: float = 0.0

    def with_frame(self, frame: NDArray[np.float64], is_counted: bool) -> "Sums":
        if not is_counted:
            return replace(self, end=self.end + 1)
        total, squares = float(frame.sum()), float((frame * frame).sum())
        return Sums(self.end + 1, self.counted + 1, self.total + total, self.squares + squares)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioWindow:
    """What the audio encoder gets for one block."""

    block: int
    samples: Samples  # [1, n], normalised
    frame_index: NDArray[np.int64]  # [frames of a block] hidden frame of each video frame
    frame_weight: NDArray[np.float32]  # [frames of a block] weight of the hidden frame after it
    num_frames: int
    """Video frames that have sound; the stream's last block may have less than a whole one."""


class StreamingAudio:
    """Samples as they come in, windows of whole blocks out: block 0, 1, 2, … A window is up to
    `audio_context_frames` video frames before the block, the block, and `audio_lookahead_frames`
    after it as far as the stream goes. Its mean and variance are those of everything from the
    stream's start to the window's end, so a block's features depend on the sound alone and not on
    how it was cut into chunks. Memory holds the context and what no block has used yet.

    `skips_idle`: video frames of zeros are not in mean and variance. A face that idled for ten
    minutes would else hear its next word eleven times too loud."""

    def __init__(self, config: PipelineConfig, *, skips_idle: bool = False) -> None:
        if config.samples_per_frame % HOP or config.samples_per_block < FIELD:
            raise ValueError(
                f"a video frame has {config.samples_per_frame} samples and a block "
                f"{config.samples_per_block}, wanted a multiple of {HOP} and at least {FIELD}"
            )
        self.config = config
        self.finished = False
        self.num_samples = 0
        """Samples that have come in."""
        self.next_block = 0
        self._chunks: deque[Samples] = deque()
        self._first = 0  # position in the stream of the first sample that is kept
        self._skips_idle = skips_idle
        self._sums = [Sums()]
        """Where the last blocks begin, and the newest."""

    @property
    def num_blocks(self) -> int:
        """Blocks that the samples so far complete, those already taken included: also where the
        sound behind them, which they heard, was withdrawn."""
        c = self.config
        if self.finished:
            return -(-self.num_samples // c.samples_per_block)
        seen = self.num_samples - c.audio_lookahead_frames * c.samples_per_frame
        return max(seen // c.samples_per_block, self.next_block)

    @property
    def num_samples_pending(self) -> int:
        """Samples that belong to no block taken so far."""
        return max(self.num_samples - self.next_block * self.config.samples_per_block, 0)

    @property
    def num_samples_kept(self) -> int:
        return self.num_samples - self._first

    def append(self, samples: Samples) -> None:
        """Take float samples [n] in [-1, 1]; ValueError if they can't be sound."""
        if self.finished:
            raise RuntimeError("audio came after the end of the stream")
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(
                f"audio is {samples.dtype}{list(samples.shape)}, wanted float32 [samples]"
            )
        if not np.isfinite(samples).all():
            raise ValueError("audio has samples that are not finite")
        self._chunks.append(samples.copy())
        self.num_samples += len(samples)

    def withdraw(self, block: int) -> None:
        """Forget the sound from `block` on: what comes next is its. `block` is among the next one
        and the WITHDRAWABLE before it."""
        if not self.next_block - WITHDRAWABLE <= block <= self.next_block:
            raise ValueError(f"block {block} can't be withdrawn, {self.next_block} is next")
        c = self.config
        end = min(self.num_samples, block * c.samples_per_block)
        kept = self._slice(self._first, end)
        self._chunks = deque([kept] if len(kept) else [])
        self.num_samples, self.next_block = end, block
        first = block * c.video_frames_per_block
        self._sums = [sums for sums in self._sums if sums.end <= first]

    def finish(self) -> None:
        """No more samples will come; the last block is filled up with silence."""
        self.finished = True

    def next_window(self) -> AudioWindow | None:
        """The next block's window, None if its samples (and its lookahead) aren't there yet."""
        if self.next_block >= self.num_blocks:
            return None
        c, block = self.config, self.next_block
        per_block = c.video_frames_per_block
        first = block * per_block
        end = first + per_block + c.audio_lookahead_frames
        if self.finished:
            end = min(end, self.num_blocks * per_block)
        start = max(first - c.audio_context_frames, 0) * c.samples_per_frame
        mean, variance = self._moments(end)
        samples = self._slice(start, end * c.samples_per_frame)
        num_hidden = num_hidden_frames(len(samples))
        index, weight = frame_places(
            first, per_block, start, num_hidden, fps=c.fps, rate=c.sample_rate
        )
        self.next_block += 1
        kept = first - (WITHDRAWABLE - 1) * per_block - c.audio_context_frames
        self._forget(max(kept, 0) * c.samples_per_frame)
        return AudioWindow(
            block=block,
            samples=normalise(samples, mean, variance),
            frame_index=index,
            frame_weight=weight,
            num_frames=min(-(-self.num_samples // c.samples_per_frame) - first, per_block),
        )

    def _slice(self, start: int, end: int) -> Samples:
        """Samples start … end - 1 of the stream; what lies after its end is silence."""
        parts, position = [np.empty(0, np.float32)], self._first
        for chunk in self._chunks:  # a long backlog stands behind `end` and is not touched
            if position >= end:
                break
            parts.append(chunk[max(start - position, 0) : end - position])
            position += len(chunk)
        samples = np.concatenate(parts)
        return np.pad(samples, (0, end - start - len(samples)))

    def _moments(self, end: int) -> tuple[float, float]:
        """Mean and variance of video frames 0 … end - 1, summed frame by frame, so that the chunks
        they came in leave no trace."""
        size, per_block = self.config.samples_per_frame, self.config.video_frames_per_block
        sums = self._sums[-1]
        samples = self._slice(sums.end * size, max(end, sums.end) * size).astype(np.float64)
        for frame in samples.reshape(-1, size):
            heard = not self._skips_idle or bool(frame.any())
            sums = sums.with_frame(frame, heard)
            if sums.end % per_block == 0 or sums.end == end:
                self._sums.append(sums)
        del self._sums[: -2 * WITHDRAWABLE - 2]
        mean = sums.total / max(sums.counted * size, 1)
        return mean, max(sums.squares / max(sums.counted * size, 1) - mean * mean, 0.0)

    def _forget(self, position: int) -> None:
        """Drop the samples before `position`."""
        while self._chunks and self._first + len(self._chunks[0]) <= position:
            self._first += len(self._chunks.popleft())
        if self._chunks and position > self._first:
            self._chunks[0] = self._chunks[0][position - self._first :]
            self._first = position
