"""Whatever sound FFmpeg finds in a file, damaged or joined ones included, as float32 planes."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.audio
import av.container
import av.error
import numpy as np

from live_avatar_client.files import check_file, file_url, shown, words
from live_avatar_client.protocol import Array
from live_avatar_client.sound.joined import parts_of

MAX_CHANNELS = 64  # FFmpeg's resampler takes no more
_RATES = range(1_000, 1_000_001)
_LOUDEST = 16.0  # float files may hold anything; sums and squares of this stay numbers
_MAX_ERRORS = 16
"""Errors of the demuxer in a row, after which the file is over: some never come to an end."""
_MAX_SILENT_PACKETS = 20_000  # packets in a row without any sound, after which the same holds

_TAGS = (b"ID3", b"TAG", b"APETAGEX")
"""How data begins that stands among the sound of MP3 and AAC files and is none."""
_FAILURES = (av.error.FFmpegError, OSError, ValueError)
_EXACT = {"flac", "ogg", "mov,mp4,m4a,3gp,3g2,mj2"}
"""Formats (FFmpeg's names) whose length of a track is stated and not guessed."""
_XING_WITHIN_BYTES = 1 << 16
_WAV_WITHOUT_SIZE = 2**31 - 2**20
"""Writers that don't know the length yet put in the largest number."""
_PADDING_S = 0.25
"""Of encoders that work in frames, at both ends together; less than this is not missing."""


@dataclass(slots=True)
class Losses:
    """Counts over one pass through a file, all its links together."""

    packets: int = 0
    lost_s: float = 0.0
    heard_s: float = 0.0
    stated_s: float = 0.0  # length by the headers that state one for certain
    slack_s: float = 0.01  # how much less than that is not missing
    silent_packets: int = 0  # packets since the last sound
    reason: str = ""  # why the first packet was lost
    parts: list[str] = field(default_factory=list)
    """Of a joined file, those that could not be opened."""
    ended: str = ""  # why nothing could be read from some place on

    def enter(
        self, path: Path, container: av.container.InputContainer, stream: av.audio.AudioStream
    ) -> None:
        """Learn the length of a file, or of a part, where its header has it for certain."""
        name = container.format.name
        if name == "wav":
            self.stated_s += _stated_by_riff(path, (container.duration or 0) / av.time_base)
        elif name in _EXACT or (name == "mp3" and _has_xing(path)):
            self.stated_s += float((stream.duration or 0) * (stream.time_base or 0))
            self.slack_s += 0.0 if name == "flac" else _PADDING_S

    def heard(self, frames: Sequence[av.AudioFrame]) -> None:
        """Count what a packet was decoded to."""
        self.silent_packets = 0 if frames else self.silent_packets + 1
        self.heard_s += sum(frame.samples / max(frame.sample_rate, 1) for frame in frames)

    def add_packet(self, seconds: float, reason: str) -> None:
        """Count a packet that is left out."""
        self.packets += 1
        self.silent_packets += 1
        self.lost_s += max(seconds, 0.0)
        self.reason = self.reason or reason

    def told(self) -> str:
        """One line for the user, "" where nothing is missing."""
        parts = []
        if self.packets:
            what = f"{self.packets} packet{'s' if self.packets > 1 else ''} ({self.lost_s:.2f} s)"
            parts.append(f"{what} can't be decoded: {self.reason}")
        if self.parts:
            parts.append(f"{', '.join(self.parts)} can't be read")
        missing_s = self.stated_s - self.heard_s - self.lost_s
        if self.ended:
            parts.append(f"it breaks off after {self.heard_s:.2f} s: {self.ended}")
        elif missing_s > self.slack_s:
            parts.append(f"{missing_s:.2f} s of its {self.stated_s:.2f} s are missing")
        return "; ".join(parts)


def _stated_by_riff(path: Path, seconds_present: float) -> float:
    """FFmpeg goes by the file's size; the header knows how large it was meant to be."""
    with path.open("rb") as file:
        head, size = file.read(8), os.fstat(file.fileno()).st_size
    meant = 8 + int.from_bytes(head[4:8], "little")
    is_cut = head[:4] == b"RIFF" and size < meant < _WAV_WITHOUT_SIZE
    return seconds_present * meant / size if is_cut else 0.0


def _has_xing(path: Path) -> bool:
    """Whether an MP3 says how many frames it has; FFmpeg else guesses by the first one's rate."""
    with path.open("rb") as file:
        head = file.read(_XING_WITHIN_BYTES)
    return b"Xing" in head or b"Info" in head


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
