"""Decoded pictures of any mode become upright RGB over black, band by band, in little memory."""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BAND_PIXELS = 2**18
_ORIENTATION_TAG = 0x0112
_MAX_ENTRIES = 512
_NUMBERS = {1: "B", 3: "H", 4: "I"}  # EXIF's whole-number types that orientations come in

Rgb = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right and bottom of a part of a picture, in pixels


def rgb_over_black(picture: Image.Image, box: Box, factor: int = 1) -> Rgb:
    """RGB [h, w, 3] of a part of a decoded picture, a pixel for each `factor` x `factor` of it; its
    sides are multiples of `factor`."""
    left, top, right, bottom = box
    rgb = np.empty(((bottom - top) // factor, (right - left) // factor, 3), np.uint8)
    for row, band in _bands(picture, box, factor):
        rgb[row : row + len(band)] = band
    return rgb


def same_pixels(picture: Image.Image, rgb: Rgb) -> bool:
    """Whether a decoded picture begins with these pixels [h, w, 3], seen over black."""
    bands = _bands(picture, (0, 0, rgb.shape[1], rgb.shape[0]), 1)
    return all(np.array_equal(rgb[row : row + len(band)], band) for row, band in bands)


def _bands(picture: Image.Image, box: Box, factor: int) -> Iterator[tuple[int, Rgb]]:
    """Pieces of what `rgb_over_black` makes, from the top down, each behind its first row."""
    left, top, right, bottom = box
    step = max(_BAND_PIXELS // (right - left) // factor, 1) * factor
    for begin in range(top, bottom, step):
        band = _rgb(picture.crop((left, begin, right, min(begin + step, bottom))))
        yield (begin - top) // factor, np.asarray(band.reduce(factor) if factor > 1 else band)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scale
        deep = np.asarray(picture)
        grey = (deep >> 8).astype(np.uint8)
        clear = picture.info.get("transparency")
        if isinstance(clear, int):
            grey[deep == clear] = 0
        picture = Image.fromarray(grey)
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return picture.convert("RGB")


def upright(rgb: Rgb, orientation: int) -> Rgb:
    """RGB [h, w, 3] as it is to be seen; orientations 5 to 8 swap height and width."""
    if orientation > 4:
        rgb = rgb.transpose(1, 0, 2)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return np.ascontiguousarray(rgb[rows, columns])


def exif_orientation(exif: bytes) -> int | None:
    """How a picture was held, 1 to 8, by EXIF bytes with or without their prefix; 1 where none is
    told, None if they can't be read."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * min(count, _MAX_ENTRIES), 12):
            tag, kind = struct.unpack_from(order + "HH4x", tiff, at)
            if tag == _ORIENTATION_TAG and kind in _NUMBERS:
                (value,) = struct.unpack_from(order + _NUMBERS[kind], tiff, at + 8)
                return value if 1 <= value <= 8 else None
    except struct.error:
        return None
    return 1
