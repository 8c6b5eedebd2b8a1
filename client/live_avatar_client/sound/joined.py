"""Files that were made by joining files: FFmpeg keeps to the first header, so each part is opened
by itself. MP3 and AAC have a header in every frame and need none of this.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

from live_avatar_client.files import check_file, file_url
from live_avatar_client.sound.ogg import link_begins

_FLAC_HEADER = re.compile(rb"fLaC[\0\x80]\0\0\x22")
"""The magic and the head of the block that must follow it: 7 bytes that frames don't hold."""
_FLAC_HEADER_BYTES = 8
_SEARCH_BYTES = 1 << 20


class Part(NamedTuple):
    """A file within a joined one: FFmpeg's URL of it, and its size."""

    url: str
    num_bytes: int


def parts_of(path: str | Path) -> list[Part]:
    """Every part; one, the file itself, for a file that is not joined.

    Raises ValueError where there is no file.
    """
    size = check_file("audio", path).st_size
    try:
        with open(path, "rb") as file:
            begins = _part_begins(file)
    except OSError:  # FFmpeg will say what is wrong, or read as far as it can
        begins = []
    if len(begins) < 2:
        return [Part(file_url(path), size)]
    ends = [*begins[1:], size]
    return [
        Part(f"subfile,,start,{begin},end,{end},,:{file_url(path)}", end - begin)
        for begin, end in zip(begins, ends, strict=True)
    ]


def _part_begins(file: BinaryIO) -> list[int]:
    head = file.read(12)
    if head.startswith(b"OggS"):
        return link_begins(file)
    if head.startswith(b"fLaC"):
        return _flac_begins(file)
    return _wav_begins(file)


def _flac_begins(file: BinaryIO) -> list[int]:
    begins = []
    place = 0
    while True:
        file.seek(place)
        block = file.read(_SEARCH_BYTES)
        begins += [place + found.start() for found in _FLAC_HEADER.finditer(block)]
        if len(block) < _SEARCH_BYTES:
            return begins
        place += len(block) - _FLAC_HEADER_BYTES + 1


def _wav_begins(file: BinaryIO) -> list[int]:
    """One after the other, as long as the size in the header leads to the next header."""
    begins: list[int] = []
    place = 0
    while True:
        file.seek(place)
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return begins
        begins.append(place)
        place += 8 + int.from_bytes(head[4:8], "little")
