"""Distribution matching: losses of the generator and of the critic (docs/method.md section 9).

The generator's samples are pushed along the difference of two scores, the teacher's (real) and that
of a critic (fake) which keeps learning what the generator makes (DMD, arXiv 2311.18828; as used by
Self-Forcing, arXiv 2506.08009). Latents are [B, C, F, h, w], timesteps [B] in 0..1000.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.denoising.schedule import NUM_TRAIN_TIMESTEPS
from train.network.flow import SigmaOf, add_noise, clean_from, exact_sigma, over_latent, shifted

Velocity = Callable[[Tensor, Tensor], Tensor]  # noisy latents, timesteps [B] -> velocity
LOWEST, HIGHEST = 20.0, 980.0  # timesteps at which scores are compared: neither end has a signal
Levels = tuple[SigmaOf, SigmaOf]
"""Timesteps -> noise shares: of the noise that is put on samples, and of velocity -> clean. The
releases take tables of shift 5 and 8, which differ by up to 20 % below timestep 200."""
EXACT: Levels = (exact_sigma, exact_sigma)


def score_timesteps(raw: Tensor, shift: float) -> Tensor:
    """Uniform integers 0..999 -> timesteps, moved towards the noise by `shift`."""
    timesteps = shifted(raw.float() / NUM_TRAIN_TIMESTEPS, shift) * NUM_TRAIN_TIMESTEPS
    return timesteps.clamp(LOWEST, HIGHEST)


def guided(conditioned: Tensor, free: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance; scale 0 is none (elsewhere called a weight of 1)."""
    return conditioned + scale * (conditioned - free)


def clean_estimate(
    velocity: Velocity, noisy: Tensor, timesteps: Tensor, levels: Levels = EXACT
) -> Tensor:
    """What a score network takes for the clean latent."""
    return clean_from(noisy, velocity(noisy, timesteps), levels[1](timesteps))


def matching_gradient(generated: Tensor, fake: Tensor, real: Tensor) -> Tensor:
    """(fake - real) over the teacher's mean distance, per clip; NaN becomes 0."""
    distance = (generated - real).abs().mean(dim=(1, 2, 3, 4), keepdim=True)
    return torch.nan_to_num((fake - real) / distance)


def matching_loss(generated: Tensor, gradient: Tensor, counted: Tensor | None = None) -> Tensor:
    """A loss in float64 whose derivative by `generated` is `gradient` / number of elements.
    `counted` [B, F] bool: frames that take part, the number is of their elements; None: all."""
    target = (generated - gradient).detach().double()
    half_square = 0.5 * (generated.double() - target) ** 2
    if counted is not None:
        half_square = half_square[over_latent(counted, half_square).bool().expand_as(half_square)]
    return half_square.mean()


def generator_loss(
    generated: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    fake: Velocity,
    real: Velocity,
    *,
    levels: Levels = EXACT,
    counted: Tensor | None = None,
) -> tuple[Tensor, float]:
    """The loss and the mean |gradient| before division, which falls as the generator gets better.
    `real` is guided already if it is to be, see `guided`."""
    with torch.no_grad():
        noisy = add_noise(generated, noise, levels[0](timesteps))
        seen = (clean_estimate(network, noisy, timesteps, levels) for network in (fake, real))
        gradient = matching_gradient(generated, *seen)
    return matching_loss(generated, gradient, counted), float(gradient.abs().mean())


def critic_loss(
    generated: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    fake: Velocity,
    *,
    levels: Levels = EXACT,
) -> Tensor:
    """Flow matching on the generator's samples. With different tables the velocity is scaled by
    their ratio, as in the releases."""
    generated = generated.detach()
    added = levels[0](timesteps)
    velocity = fake(add_noise(generated, noise, added), timesteps)
    velocity = velocity * over_latent(levels[1](timesteps) / added, velocity)
    return ((velocity - (noise - generated)) ** 2).mean()
