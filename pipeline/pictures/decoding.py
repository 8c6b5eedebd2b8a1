"""Encoded pictures become RGB, bounded in time and memory, or one error in words."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.pictures import webp as picture_webp
from pipeline.pictures.colours import rgb_over_black, same_pixels
from pipeline.pictures.exif import exif_orientation, upright
from pipeline.pictures.format import (
    TAKEN,
    TAKEN_FORMATS,
    PictureError,
    check_pixels,
    cut_off,
    damaged,
    picture_format,
)
from pipeline.pictures.gif import clean_gif
from pipeline.pictures.jpeg import read_jpeg
from pipeline.pictures.png import clean_png

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 16_000_000
"""Of BMP and GIF files."""
MAX_RUN_LENGTH = 1_000_000
"""Pixels and bytes of a BMP file whose runs are packed: Python unpacks them one by one."""
WHOLE_PIXELS = 4_000_000
"""Pictures up to this size are never made smaller while they are decoded."""
MAX_DRAFTED_PIXELS = 12_000_000
"""What any JPEG file is decoded to at most."""
GAP = 2
"""Larger ones keep this many pixels, per side, for each one that is needed."""
NO_MEMORY = "the server has no memory for this image now; try again or send a smaller one"


def decode_picture(data: bytes, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """RGB [h, w, 3] of an encoded picture, upright, transparency over black.

    `size` (height, width) is what the picture will be scaled to cover: one of more than
    WHOLE_PIXELS may come smaller than it is, yet with enough pixels for that. Without it only
    JPEG files come smaller, those that would not be held whole. Of several pictures in a file the
    first is taken. ValueError says what is wrong with bytes that are no such picture or too many,
    RuntimeError that there is no memory for it now.
    """
    if not data:
        raise ValueError(f"image is empty, wanted {TAKEN}")
    if len(data) > MAX_BYTES:
        raise ValueError(f"image has {len(data)} bytes, at most {MAX_BYTES} are taken")
    kind = picture_format(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes are checked here, metadata not handed on
            return _DECODERS[kind](data, size)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:  # a header that nobody here has read before
        raise ValueError(
            f"image is a {kind} file of far more than the {MAX_PIXELS} pixels that are taken"
        ) from error
    except Exception as error:  # the decoders raise a dozen kinds on broken bytes
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            raise RuntimeError(NO_MEMORY) from error
        raise (cut_off(kind) if "truncated" in str(error).lower() else damaged(kind)) from error


def _decode_png(data: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    data, orientation = clean_png(data)
    with _opened(data, "PNG") as file:
        return _finished(file, orientation, size)


def _decode_jpeg(data: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    jpeg = read_jpeg(data)
    sides = jpeg.height, jpeg.width
    spare = _spare(sides, _lying(size, jpeg.orientation))
    factor = _draft_factor(sides, spare, jpeg.held)
    height, width = (max(side // factor, 1) for side in sides)
    files = jpeg.files()
    rgb = rgb_over_black(_drafted(next(files), height, width), (0, 0, width, height))
    for other in files:
        if not same_pixels(_drafted(other, height, width), rgb):
            raise cut_off("JPEG")
    return upright(rgb, jpeg.orientation)


def _lying(size: tuple[int, int] | None, orientation: int) -> tuple[int, int] | None:
    """The size that is needed of a picture as it is stored."""
    return size[::-1] if size and orientation > 4 else size


def _spare(sides: tuple[int, int], size: tuple[int, int] | None) -> float:
    """How many times smaller a picture of `sides` may be made, from 1 on."""
    if size is None or sides[0] * sides[1] <= WHOLE_PIXELS:
        return 1.0
    return max(min(sides[0] / size[0], sides[1] / size[1]) / GAP, 1.0)


def _draft_factor(sides: tuple[int, int], spare: float, held: bool) -> int:
    """1, 2, 4 or 8: how much smaller a JPEG file is decoded, more than it may where it must be."""
    room = WHOLE_PIXELS if held else MAX_DRAFTED_PIXELS
    needed = math.sqrt(sides[0] * sides[1] / room)
    return next((f for f in (8, 4, 2) if f <= spare or f / 2 < needed), 1)


def _drafted(file: io.BytesIO, height: int, width: int) -> Image.Image:
    """A JPEG file decoded to that size, or to one row or column more."""
    picture = Image.open(file, formats=("JPEG",))
    picture.draft(None, (width, height))
    picture.load()
    return picture


def _decode_webp(data: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    data, orientation = picture_webp.clean_webp(data)
    with _opened(data, "WEBP") as file:
        check_pixels("WebP", file.height, file.width, picture_webp.MAX_PIXELS)
        return _finished(file, orientation, size)


def _decode_avif(data: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    with _opened(picture_webp.clean_avif(data), "AVIF") as file:
        check_pixels("AVIF", file.height, file.width, picture_webp.MAX_PIXELS)
        orientation = exif_orientation(file.info.get("exif", b"")) or 1
        return _finished(file, orientation, size)


def _decode_bmp(data: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    with _opened(data, "BMP") as file:
        check_pixels("BMP", file.height, file.width, MAX_PIXELS)
        if file.info["compression"] in (1, 2):
            check_pixels("run-length BMP", file.height, file.width, MAX_RUN_LENGTH)
            if len(data) > 2 * MAX_RUN_LENGTH:
                raise damaged("BMP", "it has more bytes than its pixels need")
        return _finished(file, 1, size)


def _decode_gif(data: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    with _opened(clean_gif(data), "GIF") as file:
        check_pixels("GIF", file.height, file.width, MAX_PIXELS)
        return _finished(file, 1, size)


_DECODERS = dict(
    zip(
        TAKEN_FORMATS,
        (_decode_png, _decode_jpeg, _decode_webp, _decode_avif, _decode_bmp, _decode_gif),
        strict=True,
    )
)


def _finished(
    file: Image.Image, orientation: int, size: tuple[int, int] | None
) -> NDArray[np.uint8]:
    """Pixels of an opened file that can't be decoded smaller, reduced as far as they may be."""
    factor = int(_spare((file.height, file.width), _lying(size, orientation)))
    file.load()
    width, height = file.width // factor * factor, file.height // factor * factor
    left, top = (file.width - width) // 2, (file.height - height) // 2
    rgb = rgb_over_black(file, (left, top, left + width, top + height), factor)
    return upright(rgb, orientation)


def _opened(data: bytes, name: str) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=(name,))
