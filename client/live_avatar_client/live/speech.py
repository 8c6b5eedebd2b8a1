"""What is still to be said: sound that came in bursts or trickles, until blocks take it."""

from collections import deque

import numpy as np

from live_avatar_client.protocol import SAMPLE_RATE, Array

PATIENCE_S = 0.15
"""So long a piece of speech shorter than a block waits for what may follow. A microphone's next
chunk comes sooner; without waiting, its first words would be torn by silence."""
MAX_QUEUED_S = 600.0
"""Speech that may wait: 19 MB."""
LOUDEST = 4.0  # of float32 samples; what is louder is on another scale, and the server refuses it


class Speech:
    """A queue of int16 samples; times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._pieces: deque[Array] = deque()
        self._num_samples = 0
        self._first_s = self._fed_s = 0.0  # when the oldest sample came, and the newest
        self._is_whole = False

    def __len__(self) -> int:
        return self._num_samples

    @property
    def seconds(self) -> float:
        return self._num_samples / SAMPLE_RATE

    def append(self, samples: Array, now_s: float) -> None:
        """Add int16 [n]; ValueError when more would wait than `MAX_QUEUED_S`."""
        new_s = len(samples) / SAMPLE_RATE
        if self.seconds + new_s > MAX_QUEUED_S:
            raise ValueError(
                f"{new_s:.1f} s of speech came while {self.seconds:.1f} s wait to be said, "
                f"at most {MAX_QUEUED_S:g} s may wait"
            )
        if not self._num_samples:
            self._first_s = now_s
        self._pieces.append(samples)
        self._num_samples += len(samples)
        self._fed_s, self._is_whole = now_s, False

    def put_back(self, samples: Array) -> None:
        """Add int16 [n] that was taken before, in front of all others."""
        self._pieces.appendleft(samples)
        self._num_samples += len(samples)

    def finish(self) -> None:
        """What is queued is whole: nothing that follows belongs to it."""
        self._is_whole = True

    def ready_s(self, block: int, trickle: int) -> float:
        """When it may begin, if nothing follows: at once when it is whole, with `trickle` samples,
        or with `block` samples that came twice as fast as they are spoken."""
        is_burst = self._fed_s - self._first_s <= self.seconds / 2
        if self._is_whole or self._num_samples >= (block if is_burst else trickle):
            return self._fed_s
        return self._fed_s + PATIENCE_S

    def take(self, num_samples: int) -> Array:
        """The oldest samples, int16, at most so many."""
        taken: list[Array] = [np.empty(0, np.int16)]
        while num_samples and self._pieces:
            piece = self._pieces.popleft()
            if len(piece) > num_samples:
                self._pieces.appendleft(piece[num_samples:])
            taken.append(piece[:num_samples])
            num_samples -= len(taken[-1])
            self._num_samples -= len(taken[-1])
        return np.concatenate(taken)

    def clear(self) -> None:
        self._pieces.clear()
        self._num_samples = 0


def as_int16(audio: Array) -> Array:
    """Mono 16 kHz audio, float32 in [-1, 1] or int16, as int16 [n] of its own; ValueError for
    anything else."""
    audio = np.asarray(audio)
    if audio.ndim != 1 or audio.dtype not in (np.float32, np.int16):
        raise ValueError(
            f"audio is {audio.dtype} {list(audio.shape)}, expected mono 16 kHz samples, "
            "float32 [samples] in [-1, 1] or int16 [samples]"
        )
    if audio.dtype == np.int16:
        return audio.copy()  # microphones fill one buffer again and again
    peak = np.abs(audio).max(initial=0)
    if not peak <= LOUDEST:
        raise ValueError(f"audio has samples up to {peak:g}, expected [-1, 1]")
    samples: Array = np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)
    return samples
