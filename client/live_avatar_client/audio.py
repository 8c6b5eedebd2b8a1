"""Sound from any file that PyAV opens, as the mono 16 kHz float32 chunks that a session takes."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.audio
import av.container
import av.error
import numpy as np

from live_avatar_client.protocol import SAMPLE_RATE


def read_audio(path: str | Path, chunk_ms: float = 100.0) -> Iterator[np.ndarray]:
    """Chunks of `chunk_ms`, the last one shorter: float32 [samples] in [-1, 1], 16 kHz mono.

    Channels are averaged; the file is decoded while the chunks are taken, so its length doesn't
    matter. Raises ValueError, at the first chunk, for a file that is missing, has no sound in it
    or can't be decoded.
    """
    size = round(chunk_ms * SAMPLE_RATE / 1000)
    if size < 1:
        raise ValueError(f"chunk_ms is {chunk_ms}, expected 1/16 ms (one sample) or more")
    rest = np.empty(0, np.float32)
    num_samples = 0
    for piece in map(_mono, decode_sound(path, SAMPLE_RATE)):
        num_samples += len(piece)
        rest = np.concatenate([rest, piece])
        whole = len(rest) - len(rest) % size
        for begin in range(0, whole, size):
            yield rest[begin : begin + size]
        rest = rest[whole:]
    if not num_samples:
        raise ValueError(f"audio {path} has a sound track of 0 samples")
    if len(rest):
        yield rest


def audio_seconds(path: str | Path) -> float | None:
    """The length that the file's header states; None where it states none."""
    with open_sound(path) as (container, stream):
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None if container.duration is None else container.duration / av.time_base


def paced(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same chunks, each one when a microphone would have recorded its last sample."""
    start_s = time.perf_counter()
    num_samples = 0
    for chunk in chunks:
        num_samples += len(chunk)
        time.sleep(max(0.0, start_s + num_samples / SAMPLE_RATE - time.perf_counter()))
        yield chunk


@contextmanager
def open_sound(
    path: str | Path,
) -> Iterator[tuple[av.container.InputContainer, av.audio.AudioStream]]:
    """The file's container and first sound track; every failure of reading is a ValueError."""
    if not Path(path).is_file():
        raise ValueError(f"audio {path} is not a file")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"audio {path} has no sound track")
            yield container, container.streams.audio[0]
    except av.error.FFmpegError as error:
        raise ValueError(f"audio {path} can't be read: {error.strerror}") from None


def decode_sound(
    path: str | Path, rate: int, layout: str | None = None
) -> Generator[np.ndarray, None, None]:
    """float32 [channels, samples] at `rate`, in pieces of the size the file happens to hold.

    `layout` is FFmpeg's name of the channel layout, None keeps the file's own.
    """
    with open_sound(path) as (container, stream):
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        for frame in container.decode(stream):
            yield from (piece.to_ndarray() for piece in resampler.resample(frame))
        yield from (piece.to_ndarray() for piece in resampler.resample(None))


def _mono(planes: np.ndarray) -> np.ndarray:
    """Average the channels: FFmpeg's own mix to mono adds them up, beyond 1.0.

    Resampling may overshoot, and the wire's range is [-1, 1].
    """
    return np.clip(planes.mean(axis=0, dtype=np.float32), -1.0, 1.0)
