"""Where the links of a chained Ogg file begin: FFmpeg stops at one that has another format.

RFC 3533: a page is 27 bytes of header, a table of segment sizes and the segments. Every link
opens with pages that carry the flag "beginning of stream" and the number 0, one per track.
"""

from __future__ import annotations

from typing import BinaryIO

_MAGIC = b"OggS\0"
_HEADER_BYTES = 27
_FLAGS, _NUMBER, _NUM_SEGMENTS = 5, slice(18, 22), 26  # places in the header
_BEGINS, _FIRST = 2, bytes(4)
_LARGEST_TABLE = 255
_SEARCH_BYTES = 1 << 16


def link_begins(file: BinaryIO) -> list[int]:
    """The byte at which each link begins, in an Ogg file."""
    begins = [0]
    was_begin = True
    place = 0
    while place >= 0:
        file.seek(place)
        page = file.read(_HEADER_BYTES + _LARGEST_TABLE)
        if len(page) < _HEADER_BYTES:
            break
        if not page.startswith(_MAGIC):
            place = _next_page(file, place + 1)
            continue
        is_begin = bool(page[_FLAGS] & _BEGINS) and page[_NUMBER] == _FIRST
        if is_begin and not was_begin:
            begins.append(place)
        was_begin = is_begin
        table = page[_HEADER_BYTES : _HEADER_BYTES + page[_NUM_SEGMENTS]]
        place += _HEADER_BYTES + len(table) + sum(table)
    return begins


def _next_page(file: BinaryIO, place: int) -> int:
    """The next place that looks like a page, behind damage; -1 where there is none."""
    while True:
        file.seek(place)
        block = file.read(_SEARCH_BYTES)
        found = block.find(_MAGIC)
        if found >= 0:
            return place + found
        if len(block) < _SEARCH_BYTES:
            return -1
        place += len(block) - len(_MAGIC) + 1
