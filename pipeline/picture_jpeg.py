"""JPEG files: what the decoder needs of them; all metadata but orientation left out.

A file may lack its end marker. Whether it lacks pixels, too, can't be read from its markers
alone: the decoder fills up in silence. So `others` are the same file with other bytes where it
ends. If all decode to the same pixels, none depended on what is missing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.picture_exif import exif_orientation
from pipeline.picture_format import MAX_PARTS, PictureError, check_pixels, cut_off, damaged

MAX_PIXELS = 50_000_000
"""Of a file that is decoded row by row, smaller if it is large."""
MAX_HELD_PIXELS = 12_000_000
"""Of a progressive file or another one of several scans, whose every coefficient is held."""
MAX_SCANS = 100
NUM_TAILS = 4
"""Noise that is tried in place of what may be missing; one alone may chance to change nothing."""

_END = b"\xff\xd9"
_TABLES = {0xC4, 0xCC, 0xDB, 0xDD}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xCA}
_BARE = {0x00, 0x01, 0xD8, *range(0xD0, 0xD8)}
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]")


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegFile:
    data: bytes
    tails: tuple[bytes, ...]
    """What the end marker is replaced by to see whether anything is missing; none if it came."""
    height: int
    width: int
    held: bool
    """Whether decoding holds the coefficients of the whole picture."""
    orientation: int

    @property
    def others(self) -> Iterator[bytes]:
        """The file with each of its tails."""
        return (self.data[: -len(_END)] + tail for tail in self.tails)


@dataclass(slots=True)
class _Head:
    parts: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    frame: bytes = b""
    progressive: bool = False
    orientation: int | None = None
    scan: int = 0
    """Where the first scan begins."""


def read_jpeg(data: bytes) -> JpegFile:
    """PictureError for a file without a picture, with one too large, or surely cut off."""
    head = _head(data)
    height, width, components = _frame(head.frame)
    scans, end, ended = _scans(data, head.scan)
    held = head.progressive or len(scans[0]) != len(components) + 3 if scans else False
    check_pixels(_kind(head, held), height, width, MAX_HELD_PIXELS if held else MAX_PIXELS)
    if not ended and not _all_scanned(scans, components, head.progressive):
        raise cut_off("JPEG")
    start = b"".join(head.parts) + data[head.scan : end]
    last_scan = data[data.rfind(b"\xff\xda", 0, end) : end]
    return JpegFile(
        data=start + _END,
        tails=() if ended else tuple(_other_bytes(last_scan, n) + _END for n in range(NUM_TAILS)),
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
        if marker == 0xFF or marker in _BARE:
            at += 1 if marker == 0xFF else 2
        elif marker == 0xDA:
            head.scan = at
            return head
        elif marker == 0xD9:
            raise damaged("JPEG", "it ends before its picture begins")
        elif marker in _TABLES or marker in _FRAMES:
            _keep(head, marker, data[at:end])
            at = end
        else:  # of metadata whose length is wrong only the marker is passed over
            _read_metadata(head, marker, data[at + 4 : end])
            at = end if end >= at + 4 and data[end : end + 1] == b"\xff" else at + 2
    raise PictureError(f"image is a JPEG file of more than {MAX_PARTS} segments")


def _keep(head: _Head, marker: int, segment: bytes) -> None:
    head.parts.append(segment)
    if marker in _FRAMES and not head.frame:
        head.frame = segment[4:]
        head.progressive = marker in _PROGRESSIVE


def _read_metadata(head: _Head, marker: int, body: bytes) -> None:
    """Orientation, and the two segments that tell how colours are stored, written anew."""
    if marker == 0xE1 and body.startswith(b"Exif\0\0"):
        head.orientation = head.orientation or exif_orientation(body)
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


def _scans(data: bytes, start: int) -> tuple[list[bytes], int, bool]:
    """The scans' headers (components, first and last coefficient, bits), where the last scan
    ends, and whether an end marker stands there."""
    scans: list[bytes] = []
    for marker, begin, body in _segments(data, start):
        if marker == 0xD9:
            return scans, begin, True
        if body is None:
            return scans, begin, False
        if marker == 0xDA:
            count = body[0] if body else 0
            scans.append(body[1 : 1 + 2 * count : 2] + body[1 + 2 * count : 4 + 2 * count])
            if len(scans) > MAX_SCANS:
                raise PictureError(f"image is a JPEG file of more than {MAX_SCANS} scans")
    end = len(data)
    while data[end - 1] == 0xFF:  # half a marker
        end -= 1
    return scans, end, False


def _segments(data: bytes, at: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Marker, place and body of segments from a place on; a body that is cut off is None."""
    for _ in range(MAX_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            return
        marker, begin, at = data[found.end() - 1], found.start(), found.end()
        if marker == 0xD9:
            yield marker, begin, b""
            continue
        end = at + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or at + 2 > len(data):
            yield marker, begin, None
            return
        yield marker, begin, data[at + 2 : end]
        at = max(end, at)
    raise PictureError(f"image is a JPEG file of more than {MAX_PARTS} segments")


def _all_scanned(scans: list[bytes], components: list[int], progressive: bool) -> bool:
    """Whether every coefficient has come down to its last bit, the last scan being whole."""
    missing = {(name, index) for name in components for index in range(64)}
    for scan in scans:
        names, (first, last, bits) = scan[:-3], scan[-3:]
        indices = range(first, last + 1) if progressive else range(64)
        if not progressive or bits & 15 == 0:
            missing -= {(name, index) for name in names for index in indices}
    return not missing


def _other_bytes(scan: bytes, seed: int) -> bytes:
    """What could have followed a scan that breaks off: noise, and noise behind each of the next
    restart markers. Out of their order the decoder would pass over them."""
    draw = random.Random(seed)
    noise = [draw.randbytes(size).replace(b"\xff", b"\x7f") for size in (4096, *8 * [512])]
    last = max(range(8), key=lambda n: scan.rfind(bytes((0xFF, 0xD0 + n))))
    first = last + 1 if bytes((0xFF, 0xD0 + last)) in scan else 0
    restarts = (bytes((0xFF, 0xD0 + (first + n) % 8)) + noise[n + 1] for n in range(8))
    return noise[0] + b"".join(restarts)
