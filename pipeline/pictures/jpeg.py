"""JPEG files: what the decoder needs of them; all metadata but orientation left out. Whether a file
lacks pixels can't be read from its markers: the decoder fills up in silence. So `files` are the
same file with several ends; if all decode to the same pixels, none depended on what is missing."""

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.pictures.format import (
    MAX_PARTS,
    PictureError,
    check_pixels,
    cut_off,
    damaged,
    too_many,
)
from pipeline.pictures.pixels import exif_orientation
from pipeline.pictures.scans import other_ends, read_scans

MAX_HELD_PIXELS = 12_000_000
"""Of a progressive file or another one of several scans, whose every coefficient is held."""
NUM_OTHERS = 4
"""Noise that is tried in place of what may be missing; one alone may chance to change nothing."""
SMALL_PIXELS = 1_000_000
"""A larger file that has its end marker is tried with one other end: each costs a decoding."""
_MAX_EXIFS = 8  # EXIF segments of one file that are searched for an orientation

_END = b"\xff\xd9"
_TABLES = {0xC4, 0xCC, 0xDB, 0xDD}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xCA}
_BARE = {0x00, 0x01, 0xD8, *range(0xD0, 0xD8)}
_FOLLOWS = re.compile(rb"\xff[^\x00-\xbf\xd0-\xd9]")
"""What stands behind a segment whose length is right: a marker of another, or fill bytes."""
_BORDER = re.compile(rb"\xff\xd8(?=\xff)|\xff\xd9")  # where a picture begins or ends


@dataclass(slots=True)
class JpegFile:
    """What is kept of a file, and the ends that are tried."""

    parts: list[bytes | memoryview] = field(default_factory=lambda: [b"\xff\xd8"])
    """The file without its end."""
    ends: list[bytes] = field(default_factory=lambda: [_END])
    """First its end marker, then what replaces it to see whether anything is missing."""
    frame: bytes = b""  # header of the picture: its depth, height, width, and components
    progressive: bool = False
    held: bool = False  # whether decoding holds the coefficients of the whole picture
    orientation: int | None = None
    num_exifs: int = 0

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width as they are stored."""
        height, width = struct.unpack_from(">HH", self.frame, 1)
        return height, width

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


def read_jpeg(data: bytes) -> JpegFile:
    """PictureError for a file without a picture, with one too large, or surely cut off."""
    jpeg = JpegFile()
    first_scan = _read_head(jpeg, data)
    components = _components(jpeg.frame)
    scans = read_scans(data, first_scan)
    in_parts = len(scans.headers) > 0 and len(scans.headers[0]) != len(components) + 3
    jpeg.held = jpeg.progressive or in_parts
    kind = "progressive JPEG" if jpeg.progressive else "JPEG (of several scans)"
    height, width = jpeg.sides
    if jpeg.held:
        check_pixels(kind, height, width, MAX_HELD_PIXELS)
    check_pixels("JPEG", height, width)
    if not scans.are_complete(components, jpeg.progressive):
        raise cut_off("JPEG")
    num_others = 1 if scans.ended and height * width > SMALL_PIXELS else NUM_OTHERS
    jpeg.parts.append(memoryview(data)[first_scan : scans.end])
    jpeg.ends += [other + _END for other in other_ends(data, scans, num_others)]
    return jpeg


def _read_head(jpeg: JpegFile, data: bytes) -> int:
    """The place of the first scan; what is kept of all before it goes into `jpeg`."""
    at = 2
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
            return at
        elif marker == 0xD9:
            raise damaged("JPEG", "it ends before its picture begins")
        elif marker in _TABLES or marker in _FRAMES:
            jpeg.parts.append(data[at:end])
            if marker in _FRAMES and not jpeg.frame:
                jpeg.frame, jpeg.progressive = data[at + 4 : end], marker in _PROGRESSIVE
            at = end
        elif end >= at + 4 and _FOLLOWS.match(data, end):
            _read_metadata(jpeg, marker, data[at + 4 : end])
            at = end
        else:  # of metadata whose length is wrong only the marker is passed over
            at += 2
    raise too_many("JPEG", "segments")


def _behind_picture(data: bytes, at: int) -> int:
    """Where a picture ends that begins there, inside metadata: a thumbnail, or one in another."""
    depth = 0
    for border in _BORDER.finditer(data, at):
        depth += 1 if border[0] == b"\xff\xd8" else -1
        if depth <= 0:
            return border.end()
    raise cut_off("JPEG")


def _read_metadata(jpeg: JpegFile, marker: int, body: bytes) -> None:
    """Orientation, and the two segments that tell how colours are stored, written anew."""
    if marker == 0xE1 and body.startswith(b"Exif\0\0"):
        jpeg.num_exifs += 1
        if jpeg.orientation is None and jpeg.num_exifs <= _MAX_EXIFS:
            jpeg.orientation = exif_orientation(body)
    elif marker == 0xE0 and body.startswith(b"JFIF\0"):
        jpeg.parts.append(b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0")
    elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
        jpeg.parts.append(b"\xff\xee\0\x0e" + body[:12])


def _components(frame: bytes) -> bytes:
    """The names of a picture's components; PictureError for a header that is none."""
    if len(frame) < 9 or len(frame) < 6 + 3 * frame[5]:
        raise damaged("JPEG", "its header is missing or wrong")
    if frame[0] != 8:
        raise PictureError(f"image is a JPEG file with {frame[0]} bits a colour, wanted 8")
    return frame[6 : 6 + 3 * frame[5] : 3]
