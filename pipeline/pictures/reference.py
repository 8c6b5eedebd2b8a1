"""Reference pictures: encoded bytes or RGB arrays in, the VAE encoder's image out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.config.avatar import PipelineConfig
from pipeline.pictures.decoding import decode_picture

MAX_PIXELS = 50_000_000
"""Of raw arrays; encoded pictures have limits of their own."""
SIDE_MULTIPLE = 64
"""Sides of a video are multiples of this: VAE stride, patch and the coarsest motion bucket."""


def read_picture(
    image: bytes | NDArray[np.uint8], config: PipelineConfig, fit: str = "cover"
) -> NDArray[np.float32]:
    """A picture, an encoded file or RGB [h, w, 3], as the deployment's image [1, 3, H, W].

    `fit` is one of PICTURE_FITS. ValueError for what is no such picture or too large, RuntimeError
    where there is no memory for it now.
    """
    height, width = config.height, config.width
    rgb = decode_picture(image, (height, width)) if isinstance(image, bytes) else check_rgb(image)
    return PICTURE_FITS[fit](rgb, height, width)


def check_size(height: int, width: int) -> None:
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(
            f"image is {width} x {height} pixels, wanted at least one and at most {MAX_PIXELS}"
        )


def check_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"image is {rgb.dtype}{list(rgb.shape)}, wanted uint8 [height, width, 3]")
    check_size(*rgb.shape[:2])
    return rgb


def fit_picture(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Scale RGB [h, w, 3] to cover height x width, cut the centre: [1, 3, H, W] in [-1, 1].

    A picture of that size already is not touched.
    """
    if rgb.shape[:2] != (height, width):
        size = (width, height)
        rgb = np.asarray(ImageOps.fit(Image.fromarray(rgb), size, Image.Resampling.BICUBIC))
    return _as_image(rgb)


def fit_short_side(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """As the release does it (spec/live_avatar section 2): scale RGB [h, w, 3] so that its short
    side is the video's short side, cut the centre, fill up with black: [1, 3, H, W] in [-1, 1].

    A picture that is flatter than the video gets black bars.
    """
    short = min(height, width)
    picture = Image.fromarray(_middle(rgb, 16 * max(height, width) / short))
    if min(picture.size) != short:
        scaled = [int(short * side / min(picture.size)) for side in picture.size]
        picture = picture.resize((scaled[0], scaled[1]), Image.Resampling.BILINEAR)
    frame = Image.new("RGB", (width, height))
    frame.paste(picture, (_margin(width - picture.width), _margin(height - picture.height)))
    return _as_image(np.asarray(frame))


def _middle(rgb: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """Without the ends of strips longer than `aspect`: what never shows might be scaled up to
    gigabytes."""
    longest = math.ceil(min(rgb.shape[:2]) * aspect)
    top, left = (max(side - longest, 0) // 2 for side in rgb.shape[:2])
    return rgb[top : len(rgb) - top, left : rgb.shape[1] - left]  # the centre stays the centre


def _margin(room: int) -> int:
    """Pixels before a picture with so much room around it; negative ones are cut away."""
    return room // 2 if room > 0 else -round(-room / 2)


def _as_image(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    unit = rgb.astype(np.float32) / 255
    return np.ascontiguousarray((unit * 2 - 1).transpose(2, 0, 1))[None]


PICTURE_FITS = {"cover": fit_picture, "short_side": fit_short_side}
"""Ways to make a picture as large as the video; `short_side` is the release's."""


def fit_size(height: int, width: int, area: int) -> tuple[int, int]:
    """Video height and width for a picture and a budget of pixels (spec/live_avatar section 3).

    Both are multiples of SIDE_MULTIPLE and their product is at most `area`, but for pictures so
    narrow that no such size exists.
    """
    for step in range(100):
        smallest, largest = _scale_range(height, width, area)
        scale = largest - (largest - smallest) * step / 100
        sides = [-(-int(side * scale) // SIDE_MULTIPLE) * SIDE_MULTIPLE for side in (height, width)]
        if sides[0] * sides[1] <= area:
            return sides[0], sides[1]
    aspect = width / height
    fitted = [_round_down(math.sqrt(area / aspect)), _round_down(math.sqrt(area * aspect))]
    if fitted[1] >= width or fitted[0] >= height:
        fitted = [_round_down(height), _round_down(width)]
    return fitted[0], fitted[1]


def _scale_range(height: int, width: int, area: int) -> tuple[float, float]:
    """Scales between which a size is sought, from the largest down."""
    if height * width <= area:
        return 0.1, 1.0
    slack = SIDE_MULTIPLE - 1  # what rounding up may add to each side
    a, b, c = height * width, slack * (height + width), slack**2 - area
    # The release's formula: 2ac where a quadratic's root has 4ac.
    return (-b + math.sqrt(b * b - 2 * a * c)) / (2 * a), math.sqrt(area / a)


def _round_down(side: float) -> int:
    return int(side // SIDE_MULTIPLE * SIDE_MULTIPLE)
