"""Fragmented MP4, read back by FFmpeg's own demuxer and decoders."""

import io
import re
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from live_avatar_client.gateway.fragments import MIME, Fragments
from live_avatar_client.protocol import FPS, SAMPLES_PER_FRAME, Array

NUM_FRAMES, FLASHES = 75, (10, 40, 63)
FRAME_S = 1 / FPS


def picture(tick: int) -> Array:
    return np.full((96, 64, 3), 235 if tick in FLASHES else 20, np.uint8)


def sound(tick: int) -> Array:
    """A beep in the frames that flash."""
    wave = 12_000 * np.sin(2 * np.pi * 1000 * np.arange(SAMPLES_PER_FRAME) / 16_000)
    return (wave if tick in FLASHES else 0 * wave).astype(np.int16)


@pytest.fixture(scope="module")
def pieces() -> list[bytes]:
    """What came out frame by frame, then the rest."""
    fragments = Fragments(96, 64)
    came = [fragments.add(tick, picture(tick), sound(tick)) for tick in range(NUM_FRAMES)]
    return [*came, fragments.finish()]


def pictures(content: bytes) -> tuple[list[float], list[float]]:
    """Times in seconds, and mean brightness."""
    with av.open(io.BytesIO(content)) as container:
        frames = list(container.decode(video=0))
    return [frame.time for frame in frames], [
        frame.to_ndarray(format="gray").mean() for frame in frames
    ]


def samples(content: bytes) -> tuple[Array, float]:
    """float32 at 48 kHz, and the time of the first one."""
    with av.open(io.BytesIO(content)) as container:
        frames = list(container.decode(audio=0))
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]), frames[0].time


def test_every_picture_comes_back_at_its_time(pieces: list[bytes]) -> None:
    """`frag_every_frame` of FFmpeg 8 puts all but two of them 40 ms late."""
    times, _ = pictures(b"".join(pieces))
    assert len(times) == NUM_FRAMES
    # The codec's start-up of 6.5 ms moves both tracks.
    np.testing.assert_allclose(times[1:], np.arange(1, NUM_FRAMES) * FRAME_S, atol=0.0075)


def test_sound_and_picture_stay_together(pieces: list[bytes]) -> None:
    """Lips would lead or lag by a frame, for ever."""
    times, light = pictures(b"".join(pieces))
    heard, begin_s = samples(b"".join(pieces))
    heard = heard[: len(heard) // 96 * 96]
    loud = np.abs(heard).reshape(-1, 96).max(axis=1) > 0.1  # 2 ms each
    onsets_s = begin_s + 0.002 * np.flatnonzero(loud[1:] & ~loud[:-1])
    flashes_s = [time for time, value in zip(times, light, strict=True) if value > 128]
    assert len(flashes_s) == len(FLASHES)
    for flash_s in flashes_s:
        # Opus smears an onset over a few milliseconds.
        assert np.abs(onsets_s - flash_s).min() < 0.010


def test_a_frame_leaves_with_the_next_one(pieces: list[bytes]) -> None:
    """Fragments of a whole group of pictures would cost a second of delay."""
    with_picture = [b"moof" in piece for piece in pieces]
    assert all(with_picture[1:])


def test_the_codec_is_the_one_that_is_announced(pieces: list[bytes]) -> None:
    """A browser refuses a stream whose profile or level is not the announced one."""
    content = b"".join(pieces)
    place = content.index(b"avcC") + 4
    _, profile, constraints, level = struct.unpack("4B", content[place : place + 4])
    assert f"avc1.{profile:02X}{constraints:02X}{level:02X}" in MIME


def test_frames_that_were_left_out_leave_a_gap_in_time() -> None:
    """Behind a viewer's stall everything would else be early, and sound run ahead."""
    fragments = Fragments(96, 64)
    ticks = [*range(10), *range(30, 40)]
    content = b"".join(fragments.add(tick, picture(tick), sound(tick)) for tick in ticks)
    times, _ = pictures(content + fragments.finish())
    np.testing.assert_allclose(times[1:], np.array(ticks[1:]) * FRAME_S, atol=0.0075)


@pytest.mark.long
def test_an_encoder_is_freed() -> None:
    """A container whose file leads back to it is never freed: 0.8 MB for every visit."""

    def megabytes() -> float:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def visit() -> None:
        fragments = Fragments(96, 64)
        for tick in range(5):
            fragments.add(tick, picture(tick), sound(tick))
        fragments.finish()

    for _ in range(10):
        visit()
    before = megabytes()
    for _ in range(40):
        visit()
    assert megabytes() - before < 8  # 25 and more, if they stay
