"""PNG files: what the decoder needs of them, checked; all metadata but orientation left out.

Broken or huge metadata can't hurt a picture that never hands them on. Whether all pixels are
there is checked by unpacking them once in small pieces, because the decoder would leave the
missing ones black.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.pictures.exif import exif_orientation
from pipeline.pictures.format import MAX_PARTS, PictureError, check_pixels, cut_off, damaged

MAX_PIXELS = 16_000_000
_MAGIC = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_NEEDED = {b"IHDR": "header", b"IDAT": "pixels"}
"""Chunks whose checksums must fit, in words. A palette is only a hint to most colour types."""
_PASSES = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]
"""Interlacing: first column and row of each pass, and the steps to the next ones."""
_PIECE = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @property
    def num_bytes(self) -> int:
        """Bytes of all unpacked rows, each behind the byte that names its filter."""
        bits = self.depth * _CHANNELS[self.colour]
        passes = _PASSES if self.interlaced else [(0, 0, 1, 1)]
        total = 0
        for left, top, right, down in passes:
            columns = -(-(self.width - left) // right)
            rows = -(-(self.height - top) // down)
            if columns > 0 and rows > 0:
                total += rows * (1 + (columns * bits + 7) // 8)
        return total


@dataclass(slots=True)
class _Chunks:
    """What is kept of a file."""

    header: bytes = b""
    palette: bytes = b""
    palette_sound: bool = True
    transparency: bytes = b""
    orientation: int = 1
    ended: bool = False


def clean_png(data: bytes) -> tuple[bytes, int]:
    """The file with only what its pixels need, and its orientation, 1 to 8.

    PictureError for a broken header, palette or pixel, for missing pixels and for too many.
    """
    kept, pixels = _Chunks(), list[memoryview]()
    for kind, body, sound in _chunks(data):
        if kind in _NEEDED and sound is False:
            raise damaged("PNG", f"the checksum of its {_NEEDED[kind]} is wrong")
        if kind == b"IDAT":
            pixels.append(body)
        elif sound and kind == b"IHDR":
            kept.header = kept.header or bytes(body)
        elif kind == b"PLTE":
            kept.palette = kept.palette or bytes(body[:769])
            kept.palette_sound = kept.palette_sound and sound is not False
        elif sound and kind == b"tRNS":
            kept.transparency = bytes(body[:256])
        elif kind == b"eXIf" and sound:
            kept.orientation = exif_orientation(bytes(body[:_PIECE])) or kept.orientation
        elif kind == b"IEND":
            kept.ended = True
            break
    header = _header(kept.header, cut=not kept.ended)
    check_pixels("PNG", header.height, header.width, MAX_PIXELS)
    _check_rows(pixels, header, kept.ended)
    return b"".join(_rebuilt(kept, header, pixels)), kept.orientation


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, bool | None]]:
    """Kind, body and whether the checksum fits; None for a last chunk that is cut off."""
    view, at = memoryview(data), len(_MAGIC)
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        body, rest = view[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        sound = None
        if len(rest) == 4:
            sound = zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(rest, "big")
        yield kind, body, sound
        at += 12 + length
    raise PictureError(f"image is a PNG file of more than {MAX_PARTS} chunks")


def _header(body: bytes, cut: bool) -> Header:
    if not body:
        raise cut_off("PNG") if cut else damaged("PNG", "it has no header")
    if len(body) != 13:
        raise damaged("PNG", "its header is wrong")
    width, height, depth, colour, packing, filtering, interlace = struct.unpack(">IIBBBBB", body)
    if depth not in _DEPTHS.get(colour, ()) or packing or filtering or interlace > 1:
        raise damaged("PNG", "its header is wrong")
    return Header(
        width=width, height=height, depth=depth, colour=colour, interlaced=bool(interlace)
    )


def _check_rows(pixels: list[memoryview], header: Header, ended: bool) -> None:
    """PictureError unless the packed pixels are sound and enough for the picture."""
    unpacker, missing = zlib.decompressobj(), header.num_bytes
    pieces = (body[at : at + _PIECE] for body in pixels for at in range(0, len(body), _PIECE))
    try:
        for piece in pieces:
            packed: memoryview | bytes = piece
            while packed and missing > 0 and not unpacker.eof:
                missing -= len(unpacker.decompress(packed, 16 * _PIECE))
                packed = unpacker.unconsumed_tail
    except zlib.error as error:
        raise damaged("PNG", "its pixels can't be unpacked") from error
    if missing > 0:
        raise (
            damaged("PNG", "it has fewer pixels than its header says")
            if (ended or unpacker.eof)
            else cut_off("PNG")
        )


def _rebuilt(
    kept: _Chunks, header: Header, pixels: list[memoryview]
) -> Iterator[bytes | memoryview]:
    yield _MAGIC
    yield _chunk(b"IHDR", kept.header)
    if header.colour == 3:
        if not kept.palette_sound:
            raise damaged("PNG", "the checksum of its palette is wrong")
        if not 3 <= len(kept.palette) <= 768 or len(kept.palette) % 3:
            raise damaged("PNG", "its palette is missing or wrong")
        yield _chunk(b"PLTE", kept.palette)
    transparency = _transparency(kept.transparency, header)
    if transparency:
        yield _chunk(b"tRNS", transparency)
    checksum = zlib.crc32(b"IDAT")
    for body in pixels:
        checksum = zlib.crc32(body, checksum)
    yield struct.pack(">I4s", sum(map(len, pixels)), b"IDAT")
    yield from pixels
    yield struct.pack(">I", checksum)
    yield _chunk(b"IEND", b"")


def _transparency(body: bytes, header: Header) -> bytes:
    """The chunk as the decoder takes it: of deep colours it compares the upper bytes."""
    if header.colour == 3:
        return body
    wanted = {0: 2, 2: 6}.get(header.colour, 0)
    if not wanted or len(body) < wanted:
        return b""
    if header.colour == 2 and header.depth == 16:
        return bytes((0, body[0], 0, body[2], 0, body[4]))
    return body[:wanted]


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", checksum)
