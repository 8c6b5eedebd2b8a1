"""Encoded pictures become RGB, bounded in time and memory, or one error in words."""

import io
import math
import warnings

from PIL import Image

from pipeline.pictures.cleaning import clean_avif, clean_gif, clean_webp
from pipeline.pictures.format import (
    MAX_PIXELS,
    TAKEN,
    PictureError,
    check_pixels,
    cut_off,
    damaged,
    picture_format,
)
from pipeline.pictures.jpeg import read_jpeg
from pipeline.pictures.pixels import Rgb, exif_orientation, rgb_over_black, same_pixels, upright
from pipeline.pictures.png import clean_png

MAX_BYTES = 32 * 2**20
MAX_RUN_LENGTH = 1_000_000
"""Pixels and bytes of a BMP file whose runs are packed: Python unpacks them one by one."""
WHOLE_PIXELS = 4_000_000  # pictures up to this size are never made smaller while they are decoded
MAX_DRAFTED_PIXELS = 12_000_000  # what any JPEG file is decoded to at most
GAP = 2  # larger ones keep this many pixels, per side, for each one that is needed
NO_MEMORY = "the server has no memory for this image now; try again or send a smaller one"

Size = tuple[int, int]  # height and width


def decode_picture(data: bytes, size: Size | None = None) -> Rgb:
    """RGB [h, w, 3] of an encoded picture (the first in its file), upright, transparency over
    black. `size` (height, width) is what it will be scaled to cover: one of more than WHOLE_PIXELS
    may come smaller than it is, yet with enough pixels for that; without it only JPEG files that
    would not be held whole. ValueError says what is wrong with bytes that are no such picture or
    too many, RuntimeError that there is no memory for it now."""
    if not data:
        raise ValueError(f"image is empty, wanted {TAKEN}")
    if len(data) > MAX_BYTES:
        raise ValueError(f"image has {len(data)} bytes, at most {MAX_BYTES} are taken")
    kind = picture_format(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes are checked here, metadata not handed on
            return _decode_jpeg(data, size) if kind == "JPEG" else _decode(kind, data, size)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:  # a header that nobody here has read before
        raise ValueError(
            f"image is a {kind} file of far more than the {MAX_PIXELS[kind]} pixels that are taken"
        ) from error
    except Exception as error:  # the decoders raise a dozen kinds on broken bytes
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            raise RuntimeError(NO_MEMORY) from error
        raise (cut_off(kind) if "truncated" in str(error).lower() else damaged(kind)) from error


def _decode(kind: str, data: bytes, size: Size | None) -> Rgb:
    """The pixels of a file that can't be decoded smaller, reduced as far as they may be."""
    orientation = 1
    match kind:
        case "PNG":
            data, orientation = clean_png(data)
        case "WebP":
            data, orientation = clean_webp(data)
        case "AVIF":
            data = clean_avif(data)
        case "GIF":
            data = clean_gif(data)
    with Image.open(io.BytesIO(data), formats=(kind.upper(),)) as file:
        check_pixels(kind, file.height, file.width)
        if kind == "AVIF":
            orientation = exif_orientation(file.info.get("exif", b"")) or 1
        if kind == "BMP" and file.info["compression"] in (1, 2):
            check_pixels("run-length BMP", file.height, file.width, MAX_RUN_LENGTH)
            if len(data) > 2 * MAX_RUN_LENGTH:
                raise damaged("BMP", "it has more bytes than its pixels need")
        factor = int(_spare((file.height, file.width), _lying(size, orientation)))
        file.load()
        width, height = file.width // factor * factor, file.height // factor * factor
        left, top = (file.width - width) // 2, (file.height - height) // 2
        rgb = rgb_over_black(file, (left, top, left + width, top + height), factor)
    return upright(rgb, orientation)


def _decode_jpeg(data: bytes, size: Size | None) -> Rgb:
    jpeg = read_jpeg(data)
    orientation = jpeg.orientation or 1
    factor = _draft_factor(jpeg.sides, _spare(jpeg.sides, _lying(size, orientation)), jpeg.held)
    height, width = (max(side // factor, 1) for side in jpeg.sides)
    files = jpeg.files()
    rgb = rgb_over_black(_drafted(next(files), height, width), (0, 0, width, height))
    for other in files:
        if not same_pixels(_drafted(other, height, width), rgb):
            raise cut_off("JPEG")
    return upright(rgb, orientation)


def _lying(size: Size | None, orientation: int) -> Size | None:
    """The size that is needed of a picture as it is stored."""
    return size[::-1] if size and orientation > 4 else size


def _spare(sides: Size, size: Size | None) -> float:
    """How many times smaller a picture of `sides` may be made, from 1 on."""
    if size is None or sides[0] * sides[1] <= WHOLE_PIXELS:
        return 1.0
    return max(min(sides[0] / size[0], sides[1] / size[1]) / GAP, 1.0)


def _draft_factor(sides: Size, spare: float, held: bool) -> int:
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
