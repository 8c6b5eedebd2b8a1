"""The release's rule of video sizes: from a picture and a budget of pixels. No server asks for it,
for each deployment has one size."""

import math

SIDE_MULTIPLE = 64
"""Sides of a video are multiples of this: VAE stride, patch and the coarsest motion bucket."""


def fit_size(height: int, width: int, area: int) -> tuple[int, int]:
    """Video height and width for a picture and a budget of pixels, by the release's rule.

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
