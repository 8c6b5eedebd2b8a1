"""The books of a file that is decoded: what came out of it, and what did not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import av.audio
import av.container

_EXACT_HEADERS = {"flac", "mov,mp4,m4a,3gp,3g2,mj2"}
"""Formats (FFmpeg's names) that state a track's length and do not guess it."""
_XING_WITHIN_BYTES = 1 << 16
_WAV_WITHOUT_SIZE = 2**31 - 2**20
"""Writers that don't know the length yet put in the largest number."""
_SLACK_S, _SLACK = 0.25, 0.01
"""Encoders pad at both ends; less than this is not missing."""


@dataclass(slots=True)
class Losses:
    """Counts over one pass through a file, all its links together."""

    packets: int = 0
    lost_s: float = 0.0
    heard_s: float = 0.0
    stated_s: float = 0.0
    """Length by the headers that state one for certain."""
    silent_packets: int = 0
    """Packets since the last sound."""
    reason: str = ""
    """Why the first packet was lost."""
    ended: str = ""
    """Why nothing could be read from some place on."""

    def heard(self, frames: Sequence[av.AudioFrame]) -> None:
        """A packet was decoded to these."""
        self.silent_packets = 0 if frames else self.silent_packets + 1
        self.heard_s += sum(frame.samples / max(frame.sample_rate, 1) for frame in frames)

    def add_packet(self, seconds: float, reason: str) -> None:
        """A packet is left out."""
        self.packets += 1
        self.silent_packets += 1
        self.lost_s += max(seconds, 0.0)
        self.reason = self.reason or reason

    def add_heard(self, seconds: float, reason: str) -> None:
        """Something that was decoded is left out after all."""
        self.heard_s -= seconds
        self.add_packet(seconds, reason)

    def end(self, reason: str) -> None:
        """Nothing can be read from here on."""
        self.ended = self.ended or reason

    def told(self) -> str:
        """One line for the user, "" where nothing is missing."""
        parts = []
        if self.packets:
            what = "1 packet" if self.packets == 1 else f"{self.packets} packets"
            parts.append(f"{what} ({self.lost_s:.2f} s) can't be decoded: {self.reason}")
        missing_s = self.stated_s - self.heard_s - self.lost_s
        if self.ended:
            parts.append(f"it breaks off after {self.heard_s:.2f} s: {self.ended}")
        elif missing_s > max(_SLACK_S, _SLACK * self.stated_s):
            parts.append(f"it ends after {self.heard_s:.2f} s of {self.stated_s:.2f} s")
        return "; ".join(parts)


def stated_seconds(
    path: str | Path, container: av.container.InputContainer, stream: av.audio.AudioStream
) -> float:
    """The track's length where the file's header has it for certain, else 0."""
    name = container.format.name
    if name == "wav":
        return _stated_by_riff(path, (container.duration or 0) / av.time_base)
    if name in _EXACT_HEADERS or (name == "mp3" and _has_xing(path)):
        return float((stream.duration or 0) * (stream.time_base or 0))
    return 0.0


def _stated_by_riff(path: str | Path, seconds_present: float) -> float:
    """FFmpeg goes by the file's size; the header knows how large it was meant to be."""
    with open(path, "rb") as file:
        head, size = file.read(8), os.fstat(file.fileno()).st_size
    meant = 8 + int.from_bytes(head[4:8], "little")
    is_cut = head[:4] == b"RIFF" and size < meant < _WAV_WITHOUT_SIZE
    return seconds_present * meant / size if is_cut else 0.0


def _has_xing(path: str | Path) -> bool:
    """Whether an MP3 says how many frames it has; FFmpeg else guesses by the first one's rate."""
    with open(path, "rb") as file:
        head = file.read(_XING_WITHIN_BYTES)
    return b"Xing" in head or b"Info" in head
