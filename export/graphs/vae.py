"""The VAE's three graphs: picture to motion latents, the decoder's warm-up, blocks to frames."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from export.graphs.graph import Graph, keys_under
from networks.checkpoint import load_checkpoint
from networks.compact_vae import CompactVAE, build_vae
from networks.configs import CompactVAEConfig, VAEConfig
from networks.presets import Preset
from networks.vae import VAE

WEIGHTS = "vae.safetensors"


class Encode(nn.Module):
    """Encode a picture as a still clip of 1 + 4 (motion_frames - 1) video frames."""

    def __init__(self, vae: VAE | CompactVAE, num_frames: int) -> None:
        super().__init__()
        self.vae = vae
        self.num_frames = num_frames

    def forward(self, image: Tensor) -> Tensor:
        return self.vae.encode(image.unsqueeze(2), self.num_frames)


class Warmup(nn.Module):
    """Decode the first motion latents from the start of a stream, for the state they leave."""

    def __init__(self, vae: VAE | CompactVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, motion: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.vae.decode(motion)[1])


class Decode(nn.Module):
    """Decode one block that follows on `state_*` to 8-bit frames [T, H, W, 3]."""

    def __init__(self, vae: VAE | CompactVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor, **states: Tensor) -> tuple[Tensor, ...]:
        video, next_states = self.vae.decode(latent, list(states.values()))
        return (to_uint8(video[0].permute(1, 2, 3, 0)), *next_states)


def to_uint8(frames: Tensor) -> Tensor:
    """[-1, 1] to 0..255, rounded; what lies outside is clamped."""
    return ((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def state_shapes(config: VAEConfig | CompactVAEConfig, motion: torch.Size) -> list[torch.Size]:
    """Shapes of the decoder's state after the warm-up on `motion`; nothing is computed."""
    with FakeTensorMode():
        return [state.shape for state in build_vae(config).decode(torch.zeros(motion))[1]]


def graphs(preset: Preset, weights_dir: Path) -> list[Graph]:
    """`vae_encoder`, `vae_decoder_warmup` and `vae_decoder` of a preset."""
    vae = load_checkpoint(build_vae(preset.vae), weights_dir / WEIGHTS)
    config = preset.pipeline
    channels, height, width = config.latent_channels, config.latent_height, config.latent_width
    num_frames = 1 + config.temporal_stride * (config.motion_frames - 1)
    motion = torch.zeros(1, channels, config.warmup_frames, height, width)
    states = {
        f"state_{j}": torch.zeros(shape)
        for j, shape in enumerate(state_shapes(preset.vae, motion.shape))
    }
    next_states = [f"next_{name}" for name in states]
    encode, warmup, decode = Encode(vae, num_frames), Warmup(vae), Decode(vae)
    return [
        Graph(
            name="vae_encoder",
            module=encode,
            inputs={"image": torch.zeros(1, 3, config.height, config.width)},
            output_names=["motion"],
            key_of=keys_under(encode, "vae"),
            weights_file=WEIGHTS,
        ),
        Graph(
            name="vae_decoder_warmup",
            module=warmup,
            inputs={"motion": motion},
            output_names=next_states,
            key_of=keys_under(warmup, "vae"),
            weights_file=WEIGHTS,
        ),
        Graph(
            name="vae_decoder",
            module=decode,
            inputs={"latent": torch.zeros(config.latent_shape), **states},
            output_names=["frames", *next_states],
            key_of=keys_under(decode, "vae"),
            weights_file=WEIGHTS,
        ),
    ]
