"""Sound from any file that FFmpeg opens, as the mono 16 kHz float32 chunks that a session takes."""

import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np

from live_avatar_client.files import shown
from live_avatar_client.protocol import SAMPLE_RATE, Array
from live_avatar_client.sound.decoder import Losses, decode_sound, open_sound
from live_avatar_client.sound.joined import parts_of
from live_avatar_client.sound.mono import MonoMix

_log = logging.getLogger(__name__)


def read_audio(path: str | Path, chunk_ms: float = 100.0) -> Iterator[Array]:
    """Chunks of `chunk_ms`, the last one shorter: float32 [samples] in [-1, 1], 16 kHz mono.

    Up to 64 channels are averaged; where they cancel each other the loudest one is taken. Joined
    files and ones that change their format on the way are read to their end. What is damaged is
    left out, and one warning at the end says how much. The file is decoded while the chunks are
    taken. Raises ValueError, at the first chunk, for a file that is missing, has no sound in it or
    can't be decoded at all.
    """
    if not (math.isfinite(chunk_ms) and chunk_ms > 0 and round(chunk_ms * SAMPLE_RATE / 1000) >= 1):
        raise ValueError(f"chunk_ms is {chunk_ms}, expected 1/16 ms (one sample) or more")
    size = round(chunk_ms * SAMPLE_RATE / 1000)
    losses = Losses()
    rest = np.empty(0, np.float32)
    num_samples = 0
    for piece in _mono(decode_sound(path, SAMPLE_RATE, losses=losses)):
        num_samples += len(piece)
        rest = np.concatenate([rest, piece])
        while len(rest) >= size:
            yield rest[:size]
            rest = rest[size:]
    told = losses.told()
    if not num_samples:
        reason = f"can't be decoded: {told}" if told else "has a sound track of 0 samples"
        raise ValueError(f"audio {shown(path)} {reason}")
    if told:
        _log.warning("audio %s is damaged: %s", shown(path), told)
    if len(rest):
        yield rest


def audio_seconds(path: str | Path) -> float | None:
    """The length that the file's header states; None where it states none, or a part has none.
    Raises ValueError for a file that can't be opened."""
    parts = parts_of(path)
    try:
        lengths = [_stated_seconds(path, part.url) for part in parts]
    except ValueError:
        if len(parts) == 1:
            raise
        return None  # `read_audio` takes the other parts
    return None if None in lengths else sum(filter(None, lengths))


def _stated_seconds(path: str | Path, url: str) -> float | None:
    with open_sound(path, url) as (container, stream):
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None if container.duration is None else container.duration / av.time_base


def begun(chunks: Iterable[Array]) -> Iterator[Array]:
    """The same chunks, the first one taken at once: what can't be read is told right here."""
    rest = iter(chunks)
    return itertools.chain([next(rest)], rest)


def paced(chunks: Iterable[Array]) -> Iterator[Array]:
    """The same chunks, each one when a microphone would have recorded its last sample."""
    start_s = time.perf_counter()
    num_samples = 0
    for chunk in chunks:
        num_samples += chunk.shape[-1]  # of several actors, who share a clock
        time.sleep(max(0.0, start_s + num_samples / SAMPLE_RATE - time.perf_counter()))
        yield chunk


def _mono(pieces: Iterable[Array]) -> Iterator[Array]:
    """float32 [samples] out of [channels, samples], whose number of channels may change."""
    mix: MonoMix | None = None
    for planes in pieces:
        if mix is None or mix.num_channels != len(planes):
            if mix is not None:
                yield mix.finish()
            mix = MonoMix(len(planes))
        yield mix.add(planes)
    if mix is not None:
        yield mix.finish()
