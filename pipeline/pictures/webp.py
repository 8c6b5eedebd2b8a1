"""WebP and AVIF files: what the decoder needs of them, without metadata that could break it."""

from __future__ import annotations

import struct

from pipeline.pictures.exif import exif_orientation
from pipeline.pictures.format import MAX_PARTS, PictureError, check_pixels, cut_off, damaged

MAX_PIXELS = 6_000_000
"""Of WebP and AVIF files: their decoders hold several copies of the picture."""
_METADATA_FLAGS = 0x20 | 0x08 | 0x04  # colour profile, EXIF, XMP
_PIXELS = (b"VP8 ", b"VP8L", b"ANMF")


def clean_webp(data: bytes) -> tuple[bytes, int]:
    """The file with its first picture only, and its orientation, 1 to 8.

    PictureError for a file that is cut off or too large.
    """
    parts, orientation, found, at = list[bytes](), 1, False, 12
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
        if kind == b"EXIF":
            orientation = exif_orientation(body[: 2**16]) or orientation
        elif kind in (*_PIXELS, b"VP8X", b"ALPH", b"ANIM") and not found:
            if len(body) < length:
                raise cut_off("WebP")
            found = kind in _PIXELS
            _check_size(kind, body)
            parts.append(_chunk(kind, body))
    else:
        raise PictureError(f"image is a WebP file of more than {MAX_PARTS} chunks")
    if not found:
        raise cut_off("WebP")
    chunks = b"".join(parts)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WEBP") + chunks, orientation


def _chunk(kind: bytes, body: bytes) -> bytes:
    if kind == b"VP8X":
        body = bytes((body[0] & ~_METADATA_FLAGS,)) + body[1:]
    return struct.pack("<4sI", kind, len(body)) + body + b"\0" * (len(body) % 2)


def _check_size(kind: bytes, body: bytes) -> None:
    """The decoder makes room for the canvas before anyone can ask for its size."""
    if kind in (b"ALPH", b"ANIM"):
        return
    if len(body) < {b"ANMF": 16, b"VP8L": 5}.get(kind, 10):
        raise damaged("WebP", "its header is wrong")
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
    elif kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        at = 4 if kind == b"VP8X" else 6
        width = int.from_bytes(body[at : at + 3], "little") + 1
        height = int.from_bytes(body[at + 3 : at + 6], "little") + 1
    check_pixels("WebP", height, width, MAX_PIXELS)


def clean_avif(data: bytes) -> bytes:
    """The file with its EXIF item renamed, so that the decoder passes over it.

    AVIF says in a property of its own how a picture is turned.
    """
    at = 0
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"meta":
            meta = data[at : at + length].replace(b"Exif", b"none")
            return data[:at] + meta + data[at + length :]
        if length < 8:
            break
        at += length
    return data
