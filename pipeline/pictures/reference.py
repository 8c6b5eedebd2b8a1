"""Reference pictures: encoded bytes or RGB arrays in, the VAE encoder's image out."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.config.avatar import PipelineConfig
from pipeline.pictures.decoding import decode_picture
from pipeline.pictures.format import MAX_SIDE
from pipeline.pictures.pixels import Rgb

MAX_PIXELS = 50_000_000  # of raw arrays; encoded pictures have limits of their own


def read_picture(
    image: bytes | Rgb, config: PipelineConfig, fit: str = "cover"
) -> NDArray[np.float32]:
    """A picture, an encoded file or RGB [h, w, 3], as the deployment's image [1, 3, H, W], by one
    of PICTURE_FITS. ValueError for what is no such picture or too large, RuntimeError where there
    is no memory for it now."""
    return PICTURE_FITS[fit](read_rgb(image, config), config.height, config.width)


def read_rgb(image: bytes | Rgb, config: PipelineConfig) -> Rgb:
    """The picture as RGB [h, w, 3], large enough for the deployment; errors as `read_picture`."""
    size = config.height, config.width
    return decode_picture(image, size) if isinstance(image, bytes) else check_rgb(image)


def fit_frames(frames: Rgb, config: PipelineConfig, fit: str = "cover") -> Rgb:
    """Frames [T, h, w, 3] of a video as the deployment's [T, H, W, 3], as a picture is fitted."""
    if frames.shape[1:3] == (config.height, config.width):
        return frames
    fitted = [PICTURE_FITS[fit](rgb, config.height, config.width) for rgb in frames]
    unit = np.concatenate(fitted).transpose(0, 2, 3, 1)
    whole: Rgb = np.rint((unit + 1) * 127.5).astype(np.uint8)
    return whole


def check_rgb(rgb: Rgb) -> Rgb:
    """The same picture; ValueError for an array that is none or too large."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"image is {rgb.dtype}{list(rgb.shape)}, wanted uint8 [height, width, 3]")
    height, width = rgb.shape[:2]
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(
            f"image is {width} x {height} pixels, wanted at least one and at most {MAX_PIXELS}"
        )
    if max(height, width) > MAX_SIDE:
        raise ValueError(f"image is {width} x {height} pixels, wanted at most {MAX_SIDE} a side")
    return rgb


def fit_picture(rgb: Rgb, height: int, width: int) -> NDArray[np.float32]:
    """Scale RGB [h, w, 3] to cover height x width, unless it has that size, and cut the centre: [1,
    3, H, W] in [-1, 1]."""
    if rgb.shape[:2] != (height, width):
        size = (width, height)
        rgb = np.asarray(ImageOps.fit(Image.fromarray(rgb), size, Image.Resampling.BICUBIC))
    return _as_image(rgb)


def fit_short_side(rgb: Rgb, height: int, width: int) -> NDArray[np.float32]:
    """Scale RGB [h, w, 3] as the release does: [1, 3, H, W] in [-1, 1]. Its short side becomes the
    video's short side, the centre is cut, the rest is black: bars on a picture flatter than the
    video."""
    short = min(height, width)
    picture = Image.fromarray(_middle(rgb, 16 * max(height, width) / short))
    if min(picture.size) != short:
        scaled = [int(short * side / min(picture.size)) for side in picture.size]
        picture = picture.resize((scaled[0], scaled[1]), Image.Resampling.BILINEAR)
    frame = Image.new("RGB", (width, height))
    frame.paste(picture, (_margin(width - picture.width), _margin(height - picture.height)))
    return _as_image(np.asarray(frame))


def _middle(rgb: Rgb, aspect: float) -> Rgb:
    """Cut the ends of strips longer than `aspect`: scaled up they would take gigabytes."""
    longest = math.ceil(min(rgb.shape[:2]) * aspect)
    top, left = (max(side - longest, 0) // 2 for side in rgb.shape[:2])
    return rgb[top : len(rgb) - top, left : rgb.shape[1] - left]  # the centre stays the centre


def _margin(room: int) -> int:
    """Pixels before a picture with so much room around it; negative ones are cut away."""
    return room // 2 if room > 0 else -round(-room / 2)


def _as_image(rgb: Rgb) -> NDArray[np.float32]:
    unit = rgb.astype(np.float32) / 255
    return np.ascontiguousarray((unit * 2 - 1).transpose(2, 0, 1))[None]


PICTURE_FITS = {"cover": fit_picture, "short_side": fit_short_side}
"""Ways to make a picture as large as the video; `short_side` is the release's."""
