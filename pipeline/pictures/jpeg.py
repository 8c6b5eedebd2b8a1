"""JPEG files: what the decoder needs of them; all metadata but orientation left out.

A file may lack its end marker, or have one where it was cut off. Whether it lacks pixels can't
be read from its markers alone: the decoder fills up in silence. So `files` are the same file with
several ends. If all decode to the same pixels, none depended on what is missing.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.pictures.exif import exif_orientation
from pipeline.pictures.format import MAX_PARTS, PictureError, check_pixels, cut_off, damaged
from pipeline.pictures.scans import other_ends, read_scans

MAX_PIXELS = 50_000_000
"""Of a file that is decoded row by row, smaller if it is large."""
MAX_HELD_PIXELS = 12_000_000
"""Of a progressive file or another one of several scans, whose every coefficient is held."""
NUM_OTHERS = 4
"""Noise that is tried in place of what may be missing; one alone may chance to change nothing."""
SMALL_PIXELS = 1_000_000
"""A larger file that has its end marker is tried with one other end: each costs a decoding."""
_MAX_EXIFS = 8
"""EXIF segments of one file that are searched for an orientation."""

_END = b"\xff\xd9"
_TABLES = {0xC4, 0xCC, 0xDB, 0xDD}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xCA}
_BARE = {0x00, 0x01, 0xD8, *range(0xD0, 0xD8)}
_FOLLOWS = re.compile(rb"\xff[^\x00-\xbf\xd0-\xd9]")
"""What stands behind a segment whose length is right: a marker of another, or fill bytes."""
_BORDER = re.compile(rb"\xff\xd8(?=\xff)|\xff\xd9")
"""Where a picture begins or ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegFile:
    parts: list[bytes | memoryview]
    """The file without its end."""
    ends: tuple[bytes, ...]
    """First its end marker, then what replaces it to see whether anything is missing."""
    height: int
    width: int
    held: bool
    """Whether decoding holds the coefficients of the whole picture."""
    orientation: int

    def files(self) -> Iterator[io.BytesIO]:
        """The file with each of its ends, all in the same memory: use one before the next."""
        file = io.BytesIO()
        file.writelines(self.parts)
        size = file.tell()
        for end in self.ends:
            file.seek(size)
            file.truncate()
            file.write(end)
            file.seek(0)
            yield file


@dataclass(slots=True)
class _Head:
    parts: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    frame: bytes = b""
    progressive: bool = False
    orientation: int | None = None
    num_exifs: int = 0
    scan: int = 0
    """Where the first scan begins."""


def read_jpeg(data: bytes) -> JpegFile:
    """PictureError for a file without a picture, with one too large, or surely cut off."""
    head = _head(data)
    height, width, components = _frame(head.frame)
    scans = read_scans(data, head.scan)
    in_parts = len(scans.headers) > 0 and len(scans.headers[0]) != len(components) + 3
    held = head.progressive or in_parts
    check_pixels(_kind(head, held), height, width, MAX_HELD_PIXELS if held else MAX_PIXELS)
    if not scans.are_complete(components, head.progressive):
        raise cut_off("JPEG")
    num_others = 1 if scans.ended and height * width > SMALL_PIXELS else NUM_OTHERS
    return JpegFile(
        parts=[*head.parts, memoryview(data)[head.scan : scans.end]],
        ends=(_END, *(other + _END for other in other_ends(data, scans, num_others))),
        height=height,
        width=width,
        held=held,
        orientation=head.orientation or 1,
    )


def _kind(head: _Head, held: bool) -> str:
    if head.progressive:
        return "progressive JPEG"
    return "JPEG (of several scans)" if held else "JPEG"


def _head(data: bytes) -> _Head:
    """Everything in front of the first scan."""
    head, at = _Head(), 2
    for _ in range(MAX_PARTS):
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            raise cut_off("JPEG")
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xD8 and data[at + 2] == 0xFF:
            at = _behind_picture(data, at)
        elif marker == 0xFF or marker in _BARE:
            at += 1 if marker == 0xFF else 2
        elif marker == 0xDA:
            head.scan = at
            return head
        elif marker == 0xD9:
            raise damaged("JPEG", "it ends before its picture begins")
        elif marker in _TABLES or marker in _FRAMES:
            _keep(head, marker, data[at:end])
            at = end
        elif end >= at + 4 and _FOLLOWS.match(data, end):
            _read_metadata(head, marker, data[at + 4 : end])
            at = end
        else:  # of metadata whose length is wrong only the marker is passed over
            at += 2
    raise PictureError(f"image is a JPEG file of more than {MAX_PARTS} segments")


def _behind_picture(data: bytes, at: int) -> int:
    """Where a picture ends that begins there, inside metadata: a thumbnail, or one in another."""
    depth = 0
    for border in _BORDER.finditer(data, at):
        depth += 1 if border[0] == b"\xff\xd8" else -1
        if depth <= 0:
            return border.end()
    raise cut_off("JPEG")


def _keep(head: _Head, marker: int, segment: bytes) -> None:
    head.parts.append(segment)
    if marker in _FRAMES and not head.frame:
        head.frame = segment[4:]
        head.progressive = marker in _PROGRESSIVE


def _read_metadata(head: _Head, marker: int, body: bytes) -> None:
    """Orientation, and the two segments that tell how colours are stored, written anew."""
    if marker == 0xE1 and body.startswith(b"Exif\0\0"):
        head.num_exifs += 1
        if head.orientation is None and head.num_exifs <= _MAX_EXIFS:
            head.orientation = exif_orientation(body)
    elif marker == 0xE0 and body.startswith(b"JFIF\0"):
        head.parts.append(b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0")
    elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
        head.parts.append(b"\xff\xee\0\x0e" + body[:12])


def _frame(body: bytes) -> tuple[int, int, list[int]]:
    """Height, width and the names of the components."""
    if len(body) < 9 or len(body) < 6 + 3 * body[5]:
        raise damaged("JPEG", "its header is missing or wrong")
    if body[0] != 8:
        raise PictureError(f"image is a JPEG file with {body[0]} bits a colour, wanted 8")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    return height, width, list(body[6 : 6 + 3 * body[5] : 3])
