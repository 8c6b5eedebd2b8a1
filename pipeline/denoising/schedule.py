"""Noise levels of the few-step flow-matching schedule (spec/live_avatar section 4).

sigma is the noise share of a latent: x_sigma = (1 - sigma) * clean + sigma * noise. The DiT is told
the timestep 1000 * sigma. One step goes x <- x + (sigma[i + 1] - sigma[i]) * velocity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_TRAIN_TIMESTEPS = 1000
MAX_STEPS = 8
"""Longest schedule whose modulation vectors the export stores."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`num_steps` noise levels from 1.0 down, then 0.0; a larger `shift` keeps to high noise."""

    num_steps: int
    shift: float = 3.0

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}, wanted 1 or more")
        if self.shift <= 0:
            raise ValueError(f"shift is {self.shift}, wanted a positive number")

    @property
    def sigmas(self) -> NDArray[np.float32]:
        """Noise levels before each step and after the last one, [num_steps + 1].

        The shift acts twice on the tail, because the lowest level of the training grid is itself a
        shifted one: with 4 steps the last one starts at 0.0089.
        """
        lowest = self._shifted(np.array(1 / NUM_TRAIN_TIMESTEPS))
        levels = self._shifted(np.linspace(1.0, lowest, self.num_steps))
        return np.append(levels, 0.0).astype(np.float32)

    @property
    def timesteps(self) -> NDArray[np.float32]:
        """What the DiT is told at each step, [num_steps], in 0..1000."""
        # In float32, as the release does: the last bit differs from the float64 product.
        return self.sigmas[:-1] * np.float32(NUM_TRAIN_TIMESTEPS)

    @property
    def dsigmas(self) -> NDArray[np.float32]:
        """Change of sigma in each step, [num_steps], negative."""
        return np.diff(self.sigmas)

    def _shifted(self, level: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.shift * level / (1 + (self.shift - 1) * level)


def known_timesteps(shift: float = 3.0) -> NDArray[np.float32]:
    """All timesteps of the 1..MAX_STEPS-step schedules and 0.0 (the sink's), sorted, distinct."""
    every = [Schedule(n, shift).timesteps for n in range(1, MAX_STEPS + 1)]
    return np.unique(np.concatenate([np.zeros(1, np.float32), *every]))
