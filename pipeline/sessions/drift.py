"""How far a session's picture has moved away from where it began, seen on latents alone.

Three distances, each 0 where nothing has changed. Each is blind to what the others see: colour
looks at means and spreads of channels, sharpness at fine detail against them, identity at what
stands where. A block costs a fraction of a millisecond. (docs/operations.md, Drift)

    C channels   F latent frames   h, w latent height, width
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.engines.base import Array

GRID = 6  # cells of the layout in each direction
WEIGHT = 1 / 8  # of a block in the smoothed distances: four seconds of video
SETTLED = 0.8  # of a limit, below which a session that was beyond it is back
AGAIN_BLOCKS = 48
"""So long a session is given to come back before it is re-anchored again."""
FARTHEST = 10.0
"""No block counts as further away; one with values that are no numbers is as far."""
_TINY = 1e-6


class Distances(NamedTuple):
    """Between two appearances, or limits of these."""

    colour: float
    """Root mean square over channels of how far means have moved, in spreads of the reference, and
    how much spreads have grown, as a logarithm."""
    sharpness: float
    """Logarithm of fine detail against that of the reference, without its sign."""
    identity: float
    """1 - cosine between the layouts: 0 the same, 1 unrelated, 2 opposite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """What a block looks like."""

    means: Array  # [C]
    spreads: Array  # [C], standard deviations
    detail: float  # energy of differences between neighbours, in variances
    layout: Array  # [C * GRID * GRID], means of cells, each channel normalised; length 1

    @classmethod
    @np.errstate(all="ignore")
    def of(cls, latent: Array) -> "Appearance":
        """Of a latent [1, C, F, h, w]."""
        frames = np.asarray(latent[0], np.float32)
        variances = frames.var((1, 2, 3))
        detail = sum(float(np.square(np.diff(frames, axis=axis)).mean()) for axis in (2, 3))
        return cls(
            means=frames.mean((1, 2, 3)),
            spreads=np.sqrt(variances) + _TINY,
            detail=detail / (float(variances.mean()) + _TINY) + _TINY,
            layout=_layout(frames.mean(1)),
        )

    def distances(self, reference: "Appearance") -> Distances:
        """From the reference, each 0..FARTHEST."""
        moved = np.square((self.means - reference.means) / reference.spreads).mean()
        grown = np.square(np.log(self.spreads / reference.spreads)).mean()
        return Distances(
            colour=_bounded(np.sqrt(moved + grown)),
            sharpness=_bounded(abs(math.log(self.detail / reference.detail))),
            identity=_bounded(1 - float(self.layout @ reference.layout)),
        )


class Drift:
    """The smoothed distances of one session, and what came of them."""

    def __init__(self, limits: Distances) -> None:
        self.limits = limits
        self._again = 0  # the first block for which it may be re-anchored
        self.restart(0)

    def restart(self, block: int) -> None:
        """Measure from `block` on, which shows something else. Those before it are let pass: two
        blocks may be decoded at once, and come out of order."""
        self._reference: Appearance | None = None
        self._first = block
        self.distances = Distances(0.0, 0.0, 0.0)
        self.is_beyond = False

    def see(self, block: int, appearance: Appearance) -> bool:
        """Take a block in; whether the session has gone beyond a limit with it."""
        if block < self._first:
            return False
        if self._reference is None:
            self._reference = appearance
        now, before = appearance.distances(self._reference), self.distances
        smoothed = (old + WEIGHT * (new - old) for old, new in zip(before, now, strict=True))
        self.distances = Distances(*smoothed)
        was_beyond, limit = self.is_beyond, SETTLED if self.is_beyond else 1.0
        pairs = zip(self.distances, self.limits, strict=True)
        self.is_beyond = any(distance > limit * most for distance, most in pairs)
        return self.is_beyond and not was_beyond

    def asks_for_anchor(self, block: int) -> bool:
        """Whether to re-anchor the session at `block`, which enters next. If so, it is given
        AGAIN_BLOCKS to come back."""
        if not self.is_beyond or block < self._again:
            return False
        self._again = block + AGAIN_BLOCKS
        return True

    def __str__(self) -> str:
        pairs = zip(Distances._fields, self.distances, self.limits, strict=True)
        return ", ".join(f"{name} {value:.2f} of {most:g}" for name, value, most in pairs)


def _bounded(distance: float) -> float:
    return float(min(max(distance, 0.0), FARTHEST)) if np.isfinite(distance) else FARTHEST


def _layout(picture: Array) -> Array:
    """Of a picture [C, h, w]; rows and columns that fill no cell are left out."""
    channels, *size = picture.shape
    rows, columns = (min(GRID, side) for side in size)
    high, wide = size[0] // rows, size[1] // columns
    cut = picture[:, : rows * high, : columns * wide]
    cells = cut.reshape(channels, rows, high, columns, wide).mean((2, 4)).reshape(channels, -1)
    cells -= cells.mean(1, keepdims=True)
    cells /= cells.std(1, keepdims=True) + _TINY
    layout: Array = cells.reshape(-1)
    layout /= np.linalg.norm(layout) + _TINY
    return layout
