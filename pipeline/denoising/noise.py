"""Counter-based randomness: a value is a function of (seed, block, step), never of history. So a
session gives the same video whatever else the server does, and can be resumed at any block."""

import numpy as np
from numpy.typing import NDArray

_NOISE, _SINK_DISTANCE = 0, 1


def _generator(seed: int, block: int, step: int, purpose: int) -> np.random.Generator:
    key = np.array([seed & (2**64 - 1), purpose], np.uint64)
    counter = np.array([0, 0, step, block], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def block_noise(
    seed: int, block: int, shape: tuple[int, ...], step: int = 0
) -> NDArray[np.float32]:
    """Standard normal float32 noise that enters a block before denoising step `step`; before
    step 0 it is the whole block."""
    return _generator(seed, block, step, _NOISE).standard_normal(shape, np.float32)


def seeded_sink_distance(
    seed: int, block: int, num_steps: int, low: int, high: int
) -> NDArray[np.int64]:
    """Distances low..high (inclusive) of one block, int64 [num_steps]. The release draws them anew
    in every forward, from an unseeded generator (docs/method.md section 2)."""
    draws = (_generator(seed, block, step, _SINK_DISTANCE) for step in range(num_steps))
    return np.array([draw.integers(low, high + 1) for draw in draws], np.int64)
