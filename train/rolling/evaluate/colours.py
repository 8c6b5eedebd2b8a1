"""Drift of a stream's colours, region by region, without a face to go by.

A drawn picture has a few main colours: walls, sky, skin, hair, clothes. The pixels of one are a
region, wherever they move to. Cells of a fixed grid would not do: a head that sways changes a
cell's mean by 20 to 50 grey levels, in the truth.

T frames   S the picture's side   n pixels that are looked at
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from train.evaluate.metrics import Array

FRAMES, PIXELS = 8, 2  # every so many-th frame, row and column is looked at
BIN, RADIUS = 12, 16.0  # grey levels: width of bins, and what belongs to a colour
LEAST = 0.05  # share of the picture that makes a colour a main one
CORE = 0.25  # of a region's pixels, those nearest to its colour, which say where that has moved
STEPS, STILL = 100, 0.01  # most steps until a colour is found, grey levels of the last one


class Palette:
    """The main colours of the first frames of a stream."""

    def __init__(self, frames: Array) -> None:
        """`frames` uint8 [T, S, S, 3]"""
        pixels = looked_at(frames)
        self.shares = list(_main(pixels))
        self.colours = [_nearest(pixels, colour, share) for colour, share in self.shares]

    def drift(self, frames: Array) -> float:
        """Grey levels that the worst region's colour has moved by in later frames, mean of R, G
        and B. A colour follows its region from where it was at first."""
        pixels = looked_at(frames)
        moved = (_nearest(pixels, colour, share)
                 for colour, (_, share) in zip(self.colours, self.shares, strict=True))  # fmt: skip
        each = [np.abs(new - old).mean() for new, old in zip(moved, self.colours, strict=True)]
        return float(max(each))


def looked_at(frames: Array) -> Array:
    """float32 [n, 3]"""
    return frames[::FRAMES, ::PIXELS, ::PIXELS].reshape(-1, 3).astype(np.float32)


def _main(pixels: Array) -> list[tuple[Array, float]]:
    """Colours and the shares of the picture that they cover, the largest bin first. What has no
    main colour, such as noise, is given one."""
    found, left, total = [], pixels, len(pixels)
    while len(left) >= LEAST * total:
        bins = (left // BIN).astype(np.int32) @ np.array([10_000, 100, 1])
        numbers, counts = np.unique(bins, return_counts=True)
        begun = left[bins == numbers[counts.argmax()]].mean(0)
        colour = _settled(begun, partial(_inside, left))
        share = float((_apart(left, colour) < RADIUS).sum() / total)
        if found and share < LEAST:
            break
        found.append((colour, share))
        left = left[_apart(left, colour) >= 2 * RADIUS]
    return found


def _nearest(pixels: Array, colour: Array, share: float) -> Array:
    """Where the core of a region is that has been at `colour`."""
    return _settled(colour, partial(_core, pixels, max(1, int(CORE * share * len(pixels)))))


def _settled(colour: Array, step: Callable[[Array], Array]) -> Array:
    """Where steps no longer move a colour."""
    for _ in range(STEPS):
        before, colour = colour, step(colour)
        if np.abs(colour - before).max() < STILL:
            break
    return colour


def _inside(pixels: Array, colour: Array) -> Array:
    return pixels[_apart(pixels, colour) < RADIUS].mean(0)


def _core(pixels: Array, count: int, colour: Array) -> Array:
    return pixels[np.argpartition(_apart(pixels, colour), count - 1)[:count]].mean(0)


def _apart(pixels: Array, colour: Array) -> Array:
    return np.linalg.norm(pixels - colour, axis=-1)
