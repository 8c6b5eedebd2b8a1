"""Files that were made by joining files: FFmpeg keeps to the first header.

So each part is opened by itself. MP3 and AAC have a header in every frame and need none of this.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from live_avatar_client.files import check_file, file_url

_FLAC_HEADER = re.compile(rb"fLaC[\0\x80]\0\0\x22")
"""The magic and the head of the block that must follow it: 7 bytes that frames don't hold."""
_SEARCH_BYTES = 1 << 20

_OGG_PAGE = re.compile(rb"OggS\0")
_OGG_HEADER_BYTES, _OGG_TABLE_BYTES = 27, 255
_OGG_FLAGS, _OGG_NUMBER, _OGG_NUM_SEGMENTS = 5, slice(18, 22), 26  # places in the header
_OGG_BEGINS, _OGG_FIRST = 2, bytes(4)


class Part(NamedTuple):
    """A file within a joined one: FFmpeg's URL of it, and its size."""

    url: str
    num_bytes: int


def parts_of(path: str | Path) -> list[Part]:
    """Every part; the file itself if it is not joined. Raises ValueError where there is no file."""
    size = check_file("audio", path).st_size
    try:
        with Path(path).open("rb") as file:
            begins = list(_part_begins(file))
    except OSError:  # FFmpeg will say what is wrong, or read as far as it can
        begins = []
    if len(begins) < 2:
        return [Part(file_url(path), size)]
    ends = [*begins[1:], size]
    return [
        Part(f"subfile,,start,{begin},end,{end},,:{file_url(path)}", end - begin)
        for begin, end in zip(begins, ends, strict=True)
    ]


def _part_begins(file: BinaryIO) -> Iterator[int]:
    head = file.read(4)
    if head == b"OggS":
        return _ogg_begins(file)
    return _found(file, _FLAC_HEADER, 0) if head == b"fLaC" else _wav_begins(file)


def _found(file: BinaryIO, pattern: re.Pattern[bytes], place: int) -> Iterator[int]:
    """Every place, from one on, where a pattern of 8 bytes stands; shorter ones may come twice."""
    while True:
        file.seek(place)
        block = file.read(_SEARCH_BYTES)
        yield from (place + found.start() for found in pattern.finditer(block))
        if len(block) < _SEARCH_BYTES:
            return
        place += len(block) - 7


def _ogg_begins(file: BinaryIO) -> Iterator[int]:
    """Where the links of a chained Ogg file begin: FFmpeg stops at one that has another format.

    RFC 3533: a page is 27 bytes of header, a table of segment sizes and the segments. Every link
    opens with pages that carry the flag "beginning of stream" and the number 0, one per track.
    """
    yield 0
    place: int | None = 0
    was_begin = True
    while place is not None:
        file.seek(place)
        page = file.read(_OGG_HEADER_BYTES + _OGG_TABLE_BYTES)
        if len(page) < _OGG_HEADER_BYTES:
            return
        if not _OGG_PAGE.match(page):  # behind damage
            place = next(_found(file, _OGG_PAGE, place + 1), None)
            continue
        is_begin = bool(page[_OGG_FLAGS] & _OGG_BEGINS) and page[_OGG_NUMBER] == _OGG_FIRST
        if is_begin and not was_begin:
            yield place
        was_begin = is_begin
        table = page[_OGG_HEADER_BYTES : _OGG_HEADER_BYTES + page[_OGG_NUM_SEGMENTS]]
        place += _OGG_HEADER_BYTES + len(table) + sum(table)


def _wav_begins(file: BinaryIO) -> Iterator[int]:
    """One after the other, as long as the size in the header leads to the next header."""
    place = 0
    while True:
        file.seek(place)
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        yield place
        place += 8 + int.from_bytes(head[4:8], "little")
