"""Noise levels: the avatar's schedule of a few steps, and the table that text to video looks up.

sigma is the noise share of a latent: x = (1 - sigma) * clean + sigma * noise. A network is told the
timestep 1000 * sigma and predicts the velocity noise - clean. The avatar follows it, so a step goes
x <- x + (sigma[i + 1] - sigma[i]) * velocity (docs/method.md section 1). A text-to-video stream
predicts the clean latent and adds fresh noise, or follows the velocity
(docs/method.md section 8).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.config.rolling import RollingConfig

NUM_TRAIN_TIMESTEPS = 1000
MAX_STEPS = 8
"""Longest schedule whose modulation vectors the export stores."""
Floats = NDArray[np.float32]
Latent: TypeAlias = Any
"""float32 array of numpy or torch."""


def shifted(level: Any, shift: Any) -> Any:
    """A noise level in 0..1 moved towards high noise by `shift` > 1."""
    return shift * level / (1 + (shift - 1) * level)


def check_shift(shift: float) -> None:
    """ValueError if `shift` would turn noise into its opposite."""
    if shift <= 0:
        raise ValueError(f"shift is {shift}, wanted a positive number")


@dataclass(frozen=True, slots=True)
class Schedule:
    """`num_steps` noise levels from 1.0 down, then 0.0; a larger `shift` keeps to high noise."""

    num_steps: int
    shift: float = 3.0

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}, wanted 1 or more")
        check_shift(self.shift)

    @property
    def sigmas(self) -> Floats:
        """Noise levels before each step and after the last one, [num_steps + 1].

        The shift acts twice on the tail, because the lowest level of the training grid is itself a
        shifted one: with 4 steps the last one starts at 0.0089.
        """
        lowest = shifted(1 / NUM_TRAIN_TIMESTEPS, self.shift)
        levels = shifted(np.linspace(1.0, lowest, self.num_steps), self.shift)
        return np.append(levels, 0.0).astype(np.float32)

    @property
    def timesteps(self) -> Floats:
        """What the DiT is told at each step, [num_steps], in 0..1000."""
        # In float32, as the release does: the last bit differs from the float64 product.
        return self.sigmas[:-1] * np.float32(NUM_TRAIN_TIMESTEPS)

    @property
    def dsigmas(self) -> Floats:
        """Change of sigma in each step, [num_steps], negative."""
        changes: Floats = np.diff(self.sigmas)
        return changes


def known_timesteps(shift: float = 3.0) -> Floats:
    """All timesteps of the 1..MAX_STEPS-step schedules and 0.0 (the sink's), sorted, distinct."""
    every = [Schedule(n, shift).timesteps for n in range(1, MAX_STEPS + 1)]
    timesteps: Floats = np.unique(np.concatenate([np.zeros(1, np.float32), *every]))
    return timesteps


@dataclass(frozen=True, slots=True)
class NoiseTable:
    """The training grid of 1000 levels, shifted towards high noise; sigma 0 is not on it."""

    shift: float

    def __post_init__(self) -> None:
        check_shift(self.shift)

    @property
    def sigmas(self) -> Floats:
        """[1000], falling from 1, bit for bit as PyTorch's float32 `linspace` gives them: the
        network's fastest wave turns by a radian per timestep, so a last bit of 1e-4 is seen.
        """
        index, step = np.arange(NUM_TRAIN_TIMESTEPS), np.float32(-1 / NUM_TRAIN_TIMESTEPS)
        from_start = (1 + np.float64(step) * index).astype(np.float32)
        from_end = -step * (NUM_TRAIN_TIMESTEPS - index).astype(np.float32)
        even = np.where(2 * index < NUM_TRAIN_TIMESTEPS, from_start, from_end)
        sigmas: Floats = shifted(even, np.float32(self.shift))
        return sigmas

    @property
    def timesteps(self) -> Floats:
        """[1000]: what the network is told at each sigma."""
        return self.sigmas * np.float32(NUM_TRAIN_TIMESTEPS)

    def shifted(self, steps: tuple[int, ...]) -> Floats:
        """Denoising steps 0..1000 as they are asked for -> timesteps on the grid; 0 stays 0."""
        grid = np.append(self.timesteps, np.float32(0))
        wanted: Floats = grid[NUM_TRAIN_TIMESTEPS - np.asarray(steps)]
        return wanted

    def sigma_at(self, timesteps: NDArray[np.floating[Any]]) -> Floats:
        """sigma of the nearest timestep on the grid, in the shape of `timesteps`; 0 isn't on it."""
        away = np.abs(self.timesteps - np.asarray(timesteps, np.float32)[..., None])
        nearest: Floats = self.sigmas[away.argmin(axis=-1)]
        return nearest


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
        sigmas: list[float] = self.sigmas.tolist()
        after: Floats = advance(sigmas, level, latent, velocity, noise, renoises=self._renoises)
        return after
