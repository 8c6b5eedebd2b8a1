"""Decoded pictures of any mode become RGB over black, band by band, so that memory stays small."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BAND_PIXELS = 2**18

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of a picture, in pixels."""


def rgb_over_black(picture: Image.Image, box: Box, factor: int = 1) -> NDArray[np.uint8]:
    """RGB [h, w, 3] of a part of a decoded picture, a pixel for each `factor` x `factor` of it.

    The part's sides are multiples of `factor`.
    """
    left, top, right, bottom = box
    rgb = np.empty(((bottom - top) // factor, (right - left) // factor, 3), np.uint8)
    for row, band in _bands(picture, box, factor):
        rgb[row : row + len(band)] = band
    return rgb


def same_pixels(picture: Image.Image, rgb: NDArray[np.uint8]) -> bool:
    """Whether a decoded picture begins with these pixels [h, w, 3], seen over black."""
    bands = _bands(picture, (0, 0, rgb.shape[1], rgb.shape[0]), 1)
    return all(np.array_equal(rgb[row : row + len(band)], band) for row, band in bands)


def _bands(picture: Image.Image, box: Box, factor: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Pieces of what `rgb_over_black` makes, from the top down, each behind its first row."""
    left, top, right, bottom = box
    step = max(_BAND_PIXELS // (right - left) // factor, 1) * factor
    for begin in range(top, bottom, step):
        band = _rgb(picture.crop((left, begin, right, min(begin + step, bottom))))
        reduced = band.reduce(factor) if factor > 1 else band
        yield (begin - top) // factor, np.asarray(reduced)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        return _from_16_bits(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return picture.convert("RGB")


def _from_16_bits(picture: Image.Image) -> Image.Image:
    """16-bit grey, which Pillow would clip instead of scale; one level of it may be clear."""
    deep = np.asarray(picture)
    grey = (deep >> 8).astype(np.uint8)
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey[deep == clear] = 0
    return Image.fromarray(grey).convert("RGB")
