"""The VAE's graphs of a text-to-video stream: its first block, then every other.

No picture comes first here: a stream's first latent frame is one video frame, so the first block
gives three frames less than those that follow, and it leaves the state they start from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.graphs.graph import Graph, keys_under
from export.graphs.vae import WEIGHTS, Decode, to_uint8
from networks.compact_vae import CompactVAE
from networks.vae import VAE
from pipeline.config.rolling import RollingConfig


class DecodeFirst(nn.Module):
    """Decode the first block of a stream to 8-bit frames [T, H, W, 3]."""

    def __init__(self, vae: VAE | CompactVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor) -> tuple[Tensor, ...]:
        video, next_states = self.vae.decode(latent)
        return (to_uint8(video[0].permute(1, 2, 3, 0)), *next_states)


def graphs_of(vae: VAE | CompactVAE, config: RollingConfig) -> list[Graph]:
    """`vae_decoder_first` and `vae_decoder`; `vae` bears the weights of vae.safetensors."""
    latent = torch.zeros(config.latent_shape)
    with torch.inference_mode():
        shapes = [state.shape for state in vae.decode(latent)[1]]
    states = {f"state_{j}": torch.zeros(shape) for j, shape in enumerate(shapes)}
    next_states = [f"next_{name}" for name in states]
    first, later = DecodeFirst(vae), Decode(vae)
    return [
        Graph(
            name="vae_decoder_first",
            module=first,
            inputs={"latent": latent},
            output_names=["frames", *next_states],
            key_of=keys_under(first, "vae"),
            weights_file=WEIGHTS,
        ),
        Graph(
            name="vae_decoder",
            module=later,
            inputs={"latent": latent, **states},
            output_names=["frames", *next_states],
            key_of=keys_under(later, "vae"),
            weights_file=WEIGHTS,
        ),
    ]
