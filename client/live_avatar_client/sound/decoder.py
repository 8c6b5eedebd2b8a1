"""Whatever sound FFmpeg finds in a file, damaged or joined ones included, as float32 planes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import av
import av.audio
import av.container
import av.error
import numpy as np

from live_avatar_client.files import check_file, file_url, shown, words
from live_avatar_client.protocol import Array
from live_avatar_client.sound.joined import parts_of
from live_avatar_client.sound.losses import Losses

MAX_CHANNELS = 64  # FFmpeg's resampler takes no more
_RATES = range(1_000, 1_000_001)
_LOUDEST = 16.0  # float files may hold anything; sums and squares of this stay numbers
_MAX_ERRORS = 16
"""Errors of the demuxer in a row, after which the file is over: some never come to an end."""
_MAX_SILENT_PACKETS = 20_000  # packets in a row without any sound, after which the same holds

_TAGS = (b"ID3", b"TAG", b"APETAGEX")
"""How data begins that stands among the sound of MP3 and AAC files and is none."""
_FAILURES = (av.error.FFmpegError, OSError, ValueError)


@contextlib.contextmanager
def open_sound(
    path: str | Path, url: str | None = None
) -> Iterator[tuple[av.container.InputContainer, av.audio.AudioStream]]:
    """The file's container and first sound track; ValueError where there is none to be had. `url`
    is a part of the file in FFmpeg's words, None the whole."""
    check_file("audio", path)
    try:
        container = av.open(url or file_url(path), metadata_errors="replace")
    except _FAILURES as error:
        raise ValueError(f"audio {shown(path)} can't be read: {words(error)}") from None
    with container:
        tracks = [track for track in container.streams.audio if track.codec_context is not None]
        if not tracks:
            raise ValueError(f"audio {shown(path)} has no sound track")
        yield container, tracks[0]


def decode_sound(
    path: str | Path, rate: int, *, layout: str | None = None, losses: Losses | None = None
) -> Generator[Array, None, None]:
    """float32 [C, S] at `rate`, in pieces of the size the file happens to hold, nothing beyond 16.

    C is the file's number of channels and may change on the way; with `layout` (FFmpeg's name) more
    than two are mixed to it where the file says which is which. `losses` learns what could not be
    decoded. Raises ValueError where there is no sound track at all.
    """
    losses = Losses() if losses is None else losses
    resampler: av.AudioResampler | None = None
    heard: tuple[object, ...] = ()
    for frame in _frames(path, losses):
        found = (frame.sample_rate, frame.layout.name, frame.layout.nb_channels, frame.format.name)
        if found != heard:
            yield from _resampled(resampler, None, losses)
            heard, resampler = found, _resampler(frame, rate, layout)
        yield from _resampled(resampler, frame, losses)
    yield from _resampled(resampler, None, losses)


def _frames(path: str | Path, losses: Losses) -> Iterator[av.AudioFrame]:
    """All frames of the first sound track, damaged packets left out and counted."""
    first_error: ValueError | None = None
    num_opened = 0
    parts = parts_of(path)
    for number, part in enumerate(parts, 1):
        try:
            with open_sound(path, part.url) as (container, stream):
                num_opened += 1
                with contextlib.suppress(OSError):
                    losses.enter(Path(path), container, stream)
                for packet in _packets(container, stream, losses):
                    yield from _decoded(packet, losses)
        except ValueError as error:
            first_error = first_error or error
            losses.parts.append(f"part {number} of {len(parts)} ({part.num_bytes} bytes)")
    if first_error is not None and not num_opened:
        raise first_error


def _packets(
    container: av.container.InputContainer, stream: av.audio.AudioStream, losses: Losses
) -> Iterator[av.Packet[av.audio.AudioStream]]:
    """The packets up to the file's end, or to where the demuxer finds nothing more."""
    num_errors = 0
    while num_errors < _MAX_ERRORS:
        try:
            for packet in container.demux(stream):
                num_errors = 0
                if losses.silent_packets > _MAX_SILENT_PACKETS:
                    reason = f"{_MAX_SILENT_PACKETS} packets without any sound"
                    losses.ended = losses.ended or reason
                    return
                yield packet
            return
        except _FAILURES as error:  # the next call goes on behind what could not be read
            num_errors += 1
            reason = words(error)
    losses.ended = losses.ended or reason


def _decoded(packet: av.Packet[av.audio.AudioStream], losses: Losses) -> list[av.AudioFrame]:
    try:
        decoded = packet.decode()
    except _FAILURES as error:
        if bytes(packet)[:8].startswith(_TAGS):  # at the seam of joined files
            return []
        seconds = float((packet.duration or 0) * packet.time_base) if packet.time_base else 0.0
        losses.add_packet(seconds, words(error))
        return []
    frames = [frame for frame in decoded if frame.samples]
    losses.heard(frames)
    return frames


def _resampler(frame: av.AudioFrame, rate: int, layout: str | None) -> av.AudioResampler | None:
    """A new one for frames like this, None where FFmpeg has none."""
    if frame.sample_rate not in _RATES or not 1 <= frame.layout.nb_channels <= MAX_CHANNELS:
        return None
    # An unnamed layout ("9 channels") says nothing about who is left and who is right.
    is_named = re.fullmatch(r"\d+ channels", frame.layout.name) is None
    mixed = layout if frame.layout.nb_channels > 2 and is_named else None
    return av.AudioResampler(format="flt", layout=mixed, rate=rate)


def _resampled(
    resampler: av.AudioResampler | None, frame: av.AudioFrame | None, losses: Losses
) -> Iterator[Array]:
    """What comes out for this frame, with None for the end."""
    pieces: list[av.AudioFrame] = []
    try:
        if resampler is not None:
            pieces = resampler.resample(frame)
        elif frame is not None:
            raise ValueError(
                f"{frame.layout.nb_channels} channels at {frame.sample_rate} Hz, expected up to "
                f"{MAX_CHANNELS} at {_RATES[0]} to {_RATES[-1]} Hz"
            )
    except _FAILURES as error:
        if frame is not None:
            seconds = frame.samples / max(frame.sample_rate, 1)
            losses.heard_s -= seconds
            losses.add_packet(seconds, words(error))
    yield from (_planes(piece) for piece in pieces if piece is not None and piece.samples)


def _planes(piece: av.AudioFrame) -> Array:
    """float32 [C, S] of a packed frame: PyAV reads beyond its list of planes from 8 planes on."""
    num_channels = piece.layout.nb_channels
    packed = np.frombuffer(memoryview(piece.planes[0]), np.float32, piece.samples * num_channels)
    planes: Array = np.nan_to_num(packed.reshape(-1, num_channels).T)
    return planes.clip(-_LOUDEST, _LOUDEST, dtype=np.float32)
