"""The text-to-video transformer as it learns: fresh, quick on a CPU, guided.

B clips   F latent frames   C channels   h, w latent size   N heads   L tokens   d head size
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from networks import layers
from networks.causal_wan import CausalWan, WanBlock
from networks.checkpoint import build_seeded
from pipeline.denoising.schedule import shifted
from train.network import quick_layers
from train.preset import SCENES

START_GATE = 0.5  # added to the gates of a fresh network's branches


def fresh_wan(seed: int) -> CausalWan:
    """A network that starts with velocity = latent, its branches open: at high noise that is nearly
    right, and it need not learn to let the noise through."""
    wan = build_seeded(lambda: CausalWan(SCENES.wan), seed).requires_grad_(True)
    dim, generator = SCENES.wan.dim, torch.Generator().manual_seed(seed)
    with torch.no_grad():
        enter = wan.patch_embedding.weight.view(dim, -1)
        nn.init.orthogonal_(enter, gain=(dim / enter.shape[1]) ** 0.5, generator=generator)
        # Inputs are (channel, row, column) of a patch, outputs (row, column, channel).
        back = wan.patch_embedding.weight.view(dim, SCENES.wan.channels, -1).transpose(1, 2)
        wan.head.head.weight.copy_(back.reshape(dim, -1).T / (dim / enter.shape[1]))
        for block in wan.blocks:
            block.modulation[:, [2, 5]] += START_GATE
    return wan


def quicken(wan: CausalWan) -> CausalWan:
    """Its attention by `train.network.quick_layers`, where all keys are seen."""
    for block in wan.blocks:
        assert isinstance(block, WanBlock)
        block.attend = _attend  # type: ignore[method-assign]
    return wan


def _attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    if seen is not None:
        return layers.attend(q, k, v, seen)
    return quick_layers.attend(q, k, v).float()


def velocity(wan: CausalWan, latents: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
    """Of latents [B, C, F, h, w], at timesteps [B, F]; all frames see each other. float32."""
    with quick_layers.products(latents.device):
        return wan(latents, timesteps, text).float()


def guided_velocity(
    wan: CausalWan, latents: Tensor, timesteps: Tensor, texts: Sequence[Tensor], guidance: float
) -> Tensor:
    """`texts`: rows of the prompts [B, text_len, text_dim], and of an empty one. `guidance` is so
    often what the prompt adds; 1 is none."""
    told, empty = texts
    if guidance == 1:
        return velocity(wan, latents, timesteps, told)
    both = torch.cat([told, empty.expand_as(told)])
    found = velocity(wan, latents.repeat(2, 1, 1, 1, 1), timesteps.repeat(2, 1), both)
    conditioned, free = found.chunk(2)
    return free + guidance * (conditioned - free)


@torch.no_grad()
def sample(
    wan: CausalWan,
    noise: Tensor,
    texts: Sequence[Tensor],
    *,
    steps: int = 40,
    guidance: float = 3.0,
    shift: float = SCENES.stream.shift,
) -> Tensor:
    """Whole clips from noise [B, C, F, h, w], by Euler steps along the guided velocity."""
    sigmas = shifted(torch.linspace(1, 0, steps + 1), shift)
    x = noise
    for now, then in itertools.pairwise(sigmas):
        timesteps = torch.full((len(x), x.shape[2]), 1000 * float(now))
        x = x + float(then - now) * guided_velocity(wan, x, timesteps, texts, guidance)
    return x
