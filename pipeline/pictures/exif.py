"""How a picture was held: the orientation of its EXIF data, and turning pixels upright."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

ORIENTATION_TAG = 0x0112
_MAX_ENTRIES = 512
_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""EXIF's whole-number types that orientations come in."""


def exif_orientation(exif: bytes) -> int | None:
    """The orientation, 1 to 8, in EXIF bytes with or without their prefix; None if unreadable.

    It is 1 where none is told.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return None
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(min(count, _MAX_ENTRIES)):
            at = start + 2 + 12 * entry
            tag, kind, _ = struct.unpack_from(order + "HHI", tiff, at)
            if tag == ORIENTATION_TAG and kind in _NUMBERS:
                (value,) = struct.unpack_from(order + _NUMBERS[kind], tiff, at + 8)
                return value if 1 <= value <= 8 else None
        return 1
    except struct.error:
        pass
    return None


def upright(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """RGB [h, w, 3] as it is to be seen; orientations 5 to 8 swap height and width."""
    if orientation > 4:
        rgb = rgb.transpose(1, 0, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    if flip_rows:
        rgb = rgb[::-1]
    if flip_columns:
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(rgb)
