"""WebP, AVIF and GIF files: what the decoder needs of them, all that could break it left out."""

import re
import struct

from pipeline.pictures.format import MAX_PARTS, check_pixels, cut_off, damaged, too_many
from pipeline.pictures.pixels import exif_orientation

_WEBP_METADATA = 0x20 | 0x08 | 0x04  # flags of colour profile, EXIF, XMP
_WEBP_PIXELS = (b"VP8 ", b"VP8L", b"ANMF")
_GIF_BLOCK = re.compile(rb"[!,;]")
_GIF_CONTROL = b"\xf9\4"  # label and size of the extension that tells which colour is clear


def clean_webp(data: bytes) -> tuple[bytes, int]:
    """The file with its first picture only, and its orientation, 1 to 8. PictureError for a file
    that is cut off or too large."""
    parts, orientation, found, at = list[bytes](), 1, False, 12
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
        if kind == b"EXIF":
            orientation = exif_orientation(body[: 2**16]) or orientation
        elif kind in (*_WEBP_PIXELS, b"VP8X", b"ALPH", b"ANIM") and not found:
            if len(body) < length:
                raise cut_off("WebP")
            found = kind in _WEBP_PIXELS
            _check_webp_size(kind, body)
            if kind == b"VP8X":
                body = bytes((body[0] & ~_WEBP_METADATA,)) + body[1:]
            parts += [struct.pack("<4sI", kind, length), body, b"\0" * (length % 2)]
    else:
        raise too_many("WebP", "chunks")
    if not found:
        raise cut_off("WebP")
    chunks = b"".join(parts)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WEBP") + chunks, orientation


def _check_webp_size(kind: bytes, body: bytes) -> None:
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
        width, height = (int.from_bytes(body[i : i + 3], "little") + 1 for i in (at, at + 3))
    check_pixels("WebP", height, width)


def clean_avif(data: bytes) -> bytes:
    """The file with its EXIF item renamed, so that the decoder passes over it: AVIF says in a
    property of its own how a picture is turned."""
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


def clean_gif(data: bytes) -> bytes:
    """The file from its first picture on, behind its header and what tells its clear colour.
    PictureError for a file without a picture and for one of too many blocks."""
    flags = data[10] if len(data) > 10 else 0
    start = at = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    control, num_blocks = b"", 0
    while num_blocks < MAX_PARTS:
        found = _GIF_BLOCK.search(data, at)  # like the decoder, past bytes that begin no block
        if found is None or found[0] == b";":
            raise cut_off("GIF")
        begin = found.start()
        if found[0] == b",":
            return b"".join((data[:start], control, memoryview(data)[begin:]))
        if data.startswith(_GIF_CONTROL, begin + 1):
            control = data[begin : begin + 7] + b"\0"
        at, length = begin + 2, 1
        while length and num_blocks < MAX_PARTS:  # each behind its length, an empty one is last
            length = data[at] if at < len(data) else 0
            at, num_blocks = at + 1 + length, num_blocks + 1
    raise too_many("GIF", "blocks before its picture")
