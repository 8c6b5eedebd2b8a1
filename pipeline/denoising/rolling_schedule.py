"""Noise levels of few-step generation from clean predictions (spec/rolling_forcing section 3).

sigma is the noise share of a latent: x = (1 - sigma) * clean + sigma * noise; the network tells the
velocity noise - clean. Timesteps are looked up in a table of 1000, the nearest entry counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.config.rolling import RollingConfig

NUM_TRAIN_TIMESTEPS = 1000
Floats = NDArray[np.float32]
Latent = TypeVar("Latent", bound=Any)
"""float32 array of numpy or torch."""


@dataclass(frozen=True, slots=True)
class NoiseTable:
    """The training grid of 1000 levels, shifted towards high noise; sigma 0 is not on it."""

    shift: float

    def __post_init__(self) -> None:
        if self.shift <= 0:
            raise ValueError(f"shift is {self.shift}, wanted a positive number")

    @property
    def sigmas(self) -> Floats:
        """[1000], falling from 1, bit for bit as PyTorch's float32 `linspace` gives them: the
        network's fastest wave turns by a radian per timestep, so a last bit of 1e-4 is seen.
        """
        index, step = np.arange(NUM_TRAIN_TIMESTEPS), np.float32(-1 / NUM_TRAIN_TIMESTEPS)
        from_start = (1 + np.float64(step) * index).astype(np.float32)
        from_end = -step * (NUM_TRAIN_TIMESTEPS - index).astype(np.float32)
        even = np.where(2 * index < NUM_TRAIN_TIMESTEPS, from_start, from_end)
        shift = np.float32(self.shift)
        return shift * even / (1 + (shift - 1) * even)

    @property
    def timesteps(self) -> Floats:
        """[1000]: what the network is told at each sigma."""
        return self.sigmas * np.float32(NUM_TRAIN_TIMESTEPS)

    def shifted(self, steps: tuple[int, ...]) -> Floats:
        """Denoising steps 0..1000 as they are asked for -> timesteps on the grid; 0 stays 0."""
        wanted = np.append(self.timesteps, np.float32(0))
        return wanted[NUM_TRAIN_TIMESTEPS - np.asarray(steps)]

    def sigma_at(self, timesteps: NDArray[np.floating]) -> Floats:
        """sigma of the nearest timestep on the grid, in the shape of `timesteps`; 0 isn't on it."""
        away = np.abs(self.timesteps - np.asarray(timesteps, np.float32)[..., None])
        return self.sigmas[away.argmin(axis=-1)]


def clean_of(latent: Latent, velocity: Latent, sigma: float) -> Latent:
    """The clean latent that a velocity predicts."""
    return latent - velocity * sigma


def add_noise(clean: Latent, noise: Latent, sigma: float) -> Latent:
    """A clean latent at noise level sigma."""
    return clean * (1 - sigma) + noise * sigma


def advance(
    sigmas: Sequence[float],
    level: int,
    latent: Latent,
    velocity: Latent,
    noise: Callable[[int], Latent],
    *,
    renoises: bool,
) -> Latent:
    """From `level` of `sigmas` to the next one, after the last to the clean latent.

    `noise(next_level)` gives fresh noise; it is asked only where the sampler adds some, else the
    velocity is followed (Euler).
    """
    sigma = sigmas[level]
    if level + 1 == len(sigmas):
        return clean_of(latent, velocity, sigma)
    if renoises:
        clean = clean_of(latent, velocity, sigma)
        return add_noise(clean, noise(level + 1), sigmas[level + 1])
    return latent + velocity * (sigmas[level + 1] - sigma)


class Levels:
    """The levels of a stream and how a latent goes from one to the next."""

    def __init__(self, config: RollingConfig) -> None:
        table = NoiseTable(config.shift)
        self.timesteps = table.shifted(config.denoising_steps)
        """[levels], what the network is told."""
        self.sigmas = table.sigma_at(self.timesteps)
        self._renoises = config.sampler == "renoise"

    def advance(
        self, level: int, latent: Floats, velocity: Floats, noise: Callable[[int], Floats]
    ) -> Floats:
        """See `advance`."""
        sigmas = self.sigmas.tolist()
        return advance(sigmas, level, latent, velocity, noise, renoises=self._renoises)
