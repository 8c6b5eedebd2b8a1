"""A small causal video VAE with the Wan VAE's interface, for pictures of 64 to 128 pixels.

B batch   T frames   t latent frames, T = 1 + 4(t - 1)   C = z_dim   H W pixels   h w = H/8, W/8

Wan's network spends most of its work at full resolution. This one sees patches of 4x4 pixels as
channels, works at H/4 and H/8 only, and puts patches out again. Beside encoder and decoder runs one
linear map each, between 4x8x8 pixels and a latent; training starts them as a principal component
analysis, so that the convolutions only learn what is missing.

Time as in the Wan VAE: latent 0 is frame 0 alone, latent k frames 4k - 3 .. 4k.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.configs import CompactVAEConfig, VAEConfig
from networks.vae import VAE, CausalVAE
from networks.vae_layers import (
    CausalConv3d,
    ChannelNorm,
    Conv3d,
    Layer,
    Memory,
    ResidualBlock,
    Upsample,
    held,
    hold,
    windows,
)

PATCH = 4
"""Side of the square of pixels that enters and leaves as channels."""
PATCH_CHANNELS = 3 * PATCH * PATCH
GROUP = 4
"""Frames of a latent."""


class FrameBlock(Layer):
    """A residual block that sees one frame at a time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1 = Conv3d(channels, channels, (1, 3, 3))
        self.conv2 = Conv3d(channels, channels, (1, 3, 3))

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)), memory.batch)
        return x + self.conv2(F.silu(self.norm2(y)), memory.batch)


class Halve(CausalConv3d):
    """Half the frames after the first: output j sees frames 2j - 2 .. 2j. Kernel side 3 also halves
    height and width."""

    growth = 2
    halves_time = True

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        outputs, _, kernel, side, _ = self.weight.shape
        x = memory.extend(x)
        x = x if memory.at_start else x[memory.batch :]  # frame 2j - 2 of the next j is the last
        x = windows(x, memory.batch, kernel, stride=2)
        weight = self.weight.transpose(1, 2).reshape(outputs, -1, side, side)
        return F.conv2d(x, weight, self.bias, stride=(side + 1) // 2, padding=side // 2)


class Double(nn.Module):
    """Twice the frames, less the first one of a stream; `spatial` also doubles height and width."""

    def __init__(self, inputs: int, outputs: int, spatial: bool) -> None:
        super().__init__()
        self.norm = ChannelNorm(inputs)
        self.conv = CausalConv3d(inputs, outputs * (8 if spatial else 2), side=1)
        self.spatial = spatial

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        at_start = memory.at_start
        x = Upsample.double(self.conv(F.silu(self.norm(x)), memory), memory.batch)
        x = x[memory.batch :] if at_start else x
        return F.pixel_shuffle(x, 2) if self.spatial else x


class CompactEncoder(nn.Module):
    """Patches [T * B, 48, H/4, W/4] to moments [t * B, 2C, h, w]."""

    def __init__(self, config: CompactVAEConfig) -> None:
        super().__init__()
        fine, width = config.fine_dim, config.dim
        self.stem = Conv3d(PATCH_CHANNELS, fine, (1, 3, 3))
        self.layers = nn.ModuleList(
            [
                FrameBlock(fine),
                Halve(fine, width),
                ResidualBlock(width, width),
                Halve(width, width, side=1),
                ResidualBlock(width, width),
            ]
        )
        self.norm = ChannelNorm(width)
        self.head = Conv3d(width, 2 * config.z_dim, (1, 1, 1))
        self.shortcut = Conv3d(PATCH_CHANNELS * 4, config.z_dim, (GROUP, 1, 1))

    def forward(self, patches: Tensor, memory: Memory, num_frames: int | None = None) -> Tensor:
        """`num_frames`: one frame that stands for so many; only its transient is computed."""
        batch, total = memory.batch, num_frames or patches.shape[0] // memory.batch
        at_start = memory.at_start
        x, total = held(self.layers, self.stem(patches, batch), memory, total)
        x = self.head(F.silu(self.norm(x)), batch)
        mean, log_variance = x.chunk(2, dim=1)
        linear = self.linear(patches, total, batch, at_start)
        return torch.cat([mean + linear, log_variance], dim=1)

    def linear(self, patches: Tensor, total: int, batch: int, at_start: bool) -> Tensor:
        """The shortcut, [t * B, C, h, w]; a stream's first frame counts as four equal ones."""
        x = F.pixel_unshuffle(patches, 2)
        x = torch.cat([x[:batch]] * (GROUP - 1) + [x]) if at_start else x
        return hold(self.shortcut(x, batch, stride=GROUP), total, total, batch)


class CompactDecoder(nn.Module):
    """Latents [t * B, C, h, w] to frames [T * B, 3, H, W], unclamped."""

    def __init__(self, config: CompactVAEConfig) -> None:
        super().__init__()
        fine, width = config.fine_dim, config.dim
        self.stem = CausalConv3d(config.z_dim, width)
        self.layers = nn.ModuleList(
            [
                ResidualBlock(width, width),
                ResidualBlock(width, width),
                Double(width, width, spatial=False),
                ResidualBlock(width, width),
                Double(width, fine, spatial=True),
                FrameBlock(fine),
            ]
        )
        self.norm = ChannelNorm(fine)
        self.head = Conv3d(fine, PATCH_CHANNELS, (1, 3, 3))
        self.shortcut = Conv3d(config.z_dim, GROUP * PATCH_CHANNELS * 4, (1, 1, 1))

    def forward(self, z: Tensor, memory: Memory) -> Tensor:
        at_start = memory.at_start
        x = self.stem(z, memory)
        for layer in self.layers:
            x = layer(x, memory)
        x = self.head(F.silu(self.norm(x)), memory.batch)
        return F.pixel_shuffle(x + self.linear(z, memory.batch, at_start), PATCH)

    def linear(self, z: Tensor, batch: int, at_start: bool) -> Tensor:
        """The shortcut as patches [T * B, 48, H/4, W/4]; of the first latent its last frame."""
        x = self.shortcut(z, batch)
        x = x.reshape(-1, batch, GROUP, x.shape[1] // GROUP, *x.shape[2:])
        x = x.transpose(1, 2).flatten(0, 2)
        return F.pixel_shuffle(x[(GROUP - 1) * batch :] if at_start else x, 2)


class CompactVAE(CausalVAE):
    """The network of this file. H and W of a video must be multiples of 8, else ValueError.
    `latent_mean` and `latent_std` [C] are measured on training data and saved with the weights
    (`train.vae.visibility`)."""

    def __init__(self, config: CompactVAEConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = CompactEncoder(config), CompactDecoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.z_dim))
        self.register_buffer("latent_std", torch.ones(config.z_dim))

    def _mean(self, _: Tensor) -> Tensor:
        return self.latent_mean.view(-1, 1, 1, 1)

    def _deviation(self, _: Tensor) -> Tensor:
        return self.latent_std.view(-1, 1, 1, 1)

    def _encoded(self, x: Tensor, memory: Memory, num_frames: int | None) -> Tensor:
        height, width = x.shape[2:]
        if height % 8 or width % 8:
            raise ValueError(f"VAE: picture of {height}x{width}, wanted multiples of 8")
        return self.encoder(F.pixel_unshuffle(x, PATCH), memory, num_frames)

    def _decoded(self, z: Tensor, memory: Memory) -> Tensor:
        return self.decoder(z, memory)


def build_vae(config: VAEConfig | CompactVAEConfig) -> VAE | CompactVAE:
    """The network that a preset's VAE configuration stands for."""
    return CompactVAE(config) if isinstance(config, CompactVAEConfig) else VAE(config)
