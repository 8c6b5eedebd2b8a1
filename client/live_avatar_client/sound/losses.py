"""The books of a file that is decoded: what came out of it, and what did not."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.audio
import av.container

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
