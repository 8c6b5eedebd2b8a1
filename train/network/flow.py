"""Noise levels in training, and what is linear in the noise (docs/method.md, section 1).

A noisy latent is (1 - sigma) * clean + sigma * noise; the velocity is noise - clean. A timestep or
sigma tensor [B] or [B, F] belongs to latents [B, C, F, h, w].
"""

from collections.abc import Callable

from torch import Tensor

from pipeline.denoising.schedule import NUM_TRAIN_TIMESTEPS

SigmaOf = Callable[[Tensor], Tensor]  # timesteps in 0..1000 -> noise shares in 0..1, of equal shape


def exact_sigma(timesteps: Tensor) -> Tensor:
    """What the releases' tables of 1000 levels mean."""
    return timesteps / NUM_TRAIN_TIMESTEPS


def shifted(level: Tensor, shift: float) -> Tensor:
    return shift * level / (1 + (shift - 1) * level)


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Clean latents with a share `sigma` of noise."""
    sigma = over_latent(sigma, clean)
    return (1 - sigma) * clean + sigma * noise


def clean_from(noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """The clean latent that a velocity at noise share `sigma` points to."""
    return noisy - over_latent(sigma, noisy) * velocity


def over_latent(values: Tensor, latent: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1, 1], [B, F] -> [B, 1, F, 1, 1], in the latent's own type."""
    if values.dim() == 1:
        values = values[:, None]
    return values[:, None, :, None, None].to(latent.dtype)
