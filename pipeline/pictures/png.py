"""PNG files: what the decoder needs of them, checked; all metadata but orientation left out. That
all pixels are there is checked by unpacking them once in small pieces: the decoder would leave the
missing ones black."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.pictures.format import MAX_PARTS, check_pixels, cut_off, damaged, too_many
from pipeline.pictures.pixels import exif_orientation

_MAGIC = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_NEEDED = {b"IHDR": "header", b"IDAT": "pixels"}
"""Chunks whose checksums must fit, in words. A palette is only a hint to most colour types."""
_LEFT, _TOP = (0, 4, 0, 2, 0, 1, 0), (0, 0, 4, 0, 2, 0, 1)
_RIGHT, _DOWN = (8, 8, 4, 4, 2, 2, 1), (8, 8, 8, 4, 4, 2, 2)
"""Interlacing: first column and row of each of its seven passes, and the steps to the next ones."""
_PIECE = 2**16

_Bytes = bytes | memoryview


class Header(NamedTuple):
    """The body of IHDR."""

    width: int
    height: int
    depth: int
    colour: int
    packing: int
    filtering: int
    interlaced: int

    @property
    def num_bytes(self) -> int:
        """Bytes of all unpacked rows, each behind the byte that names its filter."""
        bits = self.depth * _CHANNELS[self.colour]
        total = 0
        passes = zip(_LEFT, _TOP, _RIGHT, _DOWN, strict=True)
        for left, top, right, down in passes if self.interlaced else [(0, 0, 1, 1)]:
            columns = -(-(self.width - left) // right)
            rows = -(-(self.height - top) // down)
            if columns > 0 and rows > 0:
                total += rows * (1 + (columns * bits + 7) // 8)
        return total


def clean_png(data: bytes) -> tuple[bytes, int]:
    """The file with only what its pixels need, and its orientation, 1 to 8. PictureError for a
    broken header, palette or pixel, for missing pixels and for too many."""
    ihdr = palette = transparency = b""
    pixels, orientation, palette_sound, ended = list[memoryview](), 1, True, False
    for kind, body, sound in _chunks(data):
        if kind in _NEEDED and sound is False:
            raise damaged("PNG", f"the checksum of its {_NEEDED[kind]} is wrong")
        if kind == b"IDAT":
            pixels.append(body)
        elif kind == b"PLTE":
            palette = palette or bytes(body[:769])
            palette_sound = palette_sound and sound is not False
        elif kind == b"IEND":
            ended = True
            break
        elif sound and kind == b"IHDR":
            ihdr = ihdr or bytes(body)
        elif sound and kind == b"tRNS":
            transparency = bytes(body[:256])
        elif sound and kind == b"eXIf":
            orientation = exif_orientation(bytes(body[:_PIECE])) or orientation
    header = _header(ihdr, cut=not ended)
    check_pixels("PNG", header.height, header.width)
    _check_rows(pixels, header, ended)
    parts = [_MAGIC, *_chunk(b"IHDR", ihdr)]
    if header.colour == 3:
        if not palette_sound:
            raise damaged("PNG", "the checksum of its palette is wrong")
        if not 3 <= len(palette) <= 768 or len(palette) % 3:
            raise damaged("PNG", "its palette is missing or wrong")
        parts += _chunk(b"PLTE", palette)
    if clear := _transparency(transparency, header):
        parts += _chunk(b"tRNS", clear)
    return b"".join([*parts, *_chunk(b"IDAT", *pixels), *_chunk(b"IEND")]), orientation


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
    raise too_many("PNG", "chunks")


def _header(body: bytes, cut: bool) -> Header:
    if not body:
        raise cut_off("PNG") if cut else damaged("PNG", "it has no header")
    if len(body) != 13:
        raise damaged("PNG", "its header is wrong")
    header = Header(*struct.unpack(">IIBBBBB", body))
    allowed = header.depth in _DEPTHS.get(header.colour, ()) and header.interlaced <= 1
    if not allowed or header.packing or header.filtering:
        raise damaged("PNG", "its header is wrong")
    return header


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
    if missing > 0 and (ended or unpacker.eof):
        raise damaged("PNG", "it has fewer pixels than its header says")
    if missing > 0:
        raise cut_off("PNG")


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


def _chunk(kind: bytes, *bodies: _Bytes) -> Iterator[_Bytes]:
    checksum = zlib.crc32(kind)
    for body in bodies:
        checksum = zlib.crc32(body, checksum)
    yield struct.pack(">I4s", sum(map(len, bodies)), kind)
    yield from bodies
    yield struct.pack(">I", checksum)
