"""GIF files: what the decoder needs of them, without the extensions in front of the picture."""

from __future__ import annotations

import re

from pipeline.pictures.format import MAX_PARTS, PictureError, cut_off

_BLOCK = re.compile(rb"[!,;]")
_GRAPHIC_CONTROL = 0xF9
"""Label of the extension that tells which colour is clear."""


def clean_gif(data: bytes) -> bytes:
    """The file from its first picture on, behind its header and what tells its clear colour.

    PictureError for a file without a picture and for one of too many blocks.
    """
    flags = data[10] if len(data) > 10 else 0
    start = at = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    control, num_blocks = b"", 0
    while num_blocks < MAX_PARTS:
        found = _BLOCK.search(data, at)  # like the decoder, past bytes that begin no block
        if found is None or found[0] == b";":
            raise cut_off("GIF")
        at = found.start()
        if found[0] == b",":
            return b"".join((data[:start], control, memoryview(data)[at:]))
        end, count = _extension(data, at + 2, MAX_PARTS - num_blocks)
        if data[at + 1 : at + 3] == bytes((_GRAPHIC_CONTROL, 4)):
            control = data[at : at + 7] + b"\0"
        at, num_blocks = end, num_blocks + 1 + count
    raise PictureError(f"image is a GIF file of more than {MAX_PARTS} blocks before its picture")


def _extension(data: bytes, at: int, most: int) -> tuple[int, int]:
    """Where an extension's data ends, and of how many blocks it is; `most` are walked through.

    Each block stands behind its length; one of no length is the last.
    """
    for count in range(most):
        length = data[at] if at < len(data) else 0
        at += 1 + length
        if length == 0:
            return at, count
    return at, most
