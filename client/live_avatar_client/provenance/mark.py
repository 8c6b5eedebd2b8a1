"""An invisible mark in frames: a faint pattern that a secret decides, found again in a film.

The pattern is a sum of cosines of low and middle frequencies with random signs. It is counted in
half waves for each picture, not in pixels, so it outlives scaling. Whoever has the secret compares
a picture's own coefficients with these signs, weighted by how much a picture usually has of such
waves. Without a mark they agree in half of the cases, whatever the picture shows: the score is then
a normal number, 0 on average with deviation 1.

Letters: T frames, H W picture size, K half waves.
"""

import hashlib
from functools import lru_cache

import numpy as np

from live_avatar_client.protocol import Array

LOWEST, HIGHEST = 16, 64
"""Half waves of the pattern, across and down: coarser ones are the picture, finer ones are what a
codec drops first."""
STRENGTH = 1.5
"""Root mean square of the pattern, of 255."""
FOUND = 6.0
"""A score above this is a mark: one picture in a thousand million has it by chance."""


class Mark:
    """Of one secret. ValueError for a secret of less than 16 bytes."""

    def __init__(self, secret: bytes, strength: float = STRENGTH) -> None:
        if len(secret) < 16:
            raise ValueError(f"the mark's secret has {len(secret)} bytes, expected 16 or more")
        seed = int.from_bytes(hashlib.sha256(secret).digest(), "big")
        waves = np.hypot(*np.mgrid[:HIGHEST, :HIGHEST])
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), (HIGHEST, HIGHEST))
        self._signs = signs * ((waves >= LOWEST) & (waves < HIGHEST))  # [K, K]
        self._strength = strength
        self._patterns: dict[tuple[int, int], Array] = {}

    def put(self, frames: Array) -> Array:
        """The marked frames, uint8 RGB [..., H, W, 3] as they came. A picture with a side of less
        than 64 pixels has no room for the pattern and is given back as it is."""
        height, width = frames.shape[-3:-1]
        if min(height, width) < 64:
            return frames
        if (height, width) not in self._patterns:
            pattern = _waves(height).T @ self._signs @ _waves(width)
            pattern *= self._strength / np.sqrt((pattern**2).mean())
            self._patterns[height, width] = np.rint(pattern).astype(np.int16)[..., None]
        marked = frames + self._patterns[height, width]  # int16
        return np.clip(marked, 0, 255, out=marked).astype(np.uint8)

    def score(self, frames: Array) -> float:
        """How surely frames uint8 RGB [T, H, W, 3] bear this mark; see FOUND."""
        return self.agreement(coefficients(frames))

    def agreement(self, found: Array) -> float:
        """The score of a film's `coefficients`, which are the same for every secret."""
        waves = np.hypot(*np.mgrid[:HIGHEST, :HIGHEST]).astype(int) // 3
        rings = np.bincount(waves.ravel(), np.abs(found).ravel()) / np.bincount(waves.ravel())
        usual = rings[waves] + 1e-6  # what a picture has of waves of this length
        weights = np.clip(found / usual, -1, 1) / usual
        spread = np.sqrt((weights[self._signs != 0] ** 2).sum()) + 1e-12
        return float((weights * self._signs).sum() / spread)


def coefficients(frames: Array) -> Array:
    """Of the mean picture of frames uint8 RGB [T, H, W, 3]: [K, K] in half waves."""
    grey = frames.mean(axis=(0, 3), dtype=np.float32)
    found: Array = _waves(grey.shape[0]) @ grey @ _waves(grey.shape[1]).T
    return found


@lru_cache(maxsize=8)
def _waves(size: int) -> Array:
    """The first rows of the cosine transform of `size` samples [K, size], each of length 1."""
    at, number = np.arange(size) + 0.5, np.arange(HIGHEST)[:, None]
    rows: Array = np.cos(np.pi / size * number * at) * np.sqrt(2 / size)
    rows[0] /= np.sqrt(2)
    return rows
