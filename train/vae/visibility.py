"""How latents are normalised: by how visible their channels are."""

import torch
from torch import Tensor

from networks.compact_vae import CompactVAE

VISIBLE_CLIPS, NUDGE = 6, 0.3
"""On how many clips, and by how many deviations, latents are nudged to see what shows."""


@torch.no_grad()
def measure_latents(vae: CompactVAE, video: Tensor) -> None:
    """Set `latent_mean` and `latent_std` from video [B, 3, T, S, S].

    A channel's deviation after normalisation is the fourth root of how visible it is, mean square
    1. Channels of equal deviation would all be denoised equally well, though the picture depends
    300 times as much on the first as on the last.
    """
    vae.latent_mean.zero_()
    vae.latent_std.fill_(1)
    latents = torch.cat([vae.encode(piece) for piece in video.split(4)])
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    wanted = visibility(vae, latents[:VISIBLE_CLIPS], std) ** 0.25
    wanted /= wanted.square().mean().sqrt()
    vae.latent_mean.copy_(mean)
    vae.latent_std.copy_(std / wanted)


@torch.no_grad()
def visibility(vae: CompactVAE, latents: Tensor, std: Tensor) -> Tensor:
    """[C]: squared change of the picture per squared deviation `std` [C] of a latent's channel.

    `latents` [B, C, t, h, w] are raw: `vae` normalises with mean 0 and deviation 1.
    """
    made, _ = vae.decode(latents)
    noise = torch.randn(latents[:, 0].shape, generator=torch.Generator().manual_seed(0))
    noise = NUDGE * noise.to(latents)
    found = []
    for channel, deviation in enumerate(std):
        nudged = latents.clone()
        nudged[:, channel] += deviation * noise
        found.append((vae.decode(nudged)[0] - made).square().mean() / NUDGE**2)
    return torch.stack(found)
