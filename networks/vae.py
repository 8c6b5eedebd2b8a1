"""The causal video VAE of Wan 2.1 (spec/live_avatar section 9): one network, two drivers.

B batch   T frames   t latent frames, T = 1 + 4(t - 1)   C = z_dim   H W pixels   h w = H/8, W/8

Encoder and decoder run over a whole clip at once; the decoder also goes block by block with its
state as an explicit list of tensors. Both give the same frames.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.configs import VAEConfig
from networks.vae_layers import (
    AttentionBlock,
    CausalConv3d,
    ChannelNorm,
    Conv3d,
    Downsample,
    Memory,
    ResidualBlock,
    Upsample,
)

LATENT_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
LATENT_STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)


class Head(nn.ModuleDict):
    """Norm, SiLU, convolution; the names are the checkpoint's."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__({"0": ChannelNorm(inputs), "2": CausalConv3d(inputs, outputs)})

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        return self["2"](F.silu(self["0"](x)), memory)


def middle(channels: int) -> nn.ModuleList:
    return nn.ModuleList(
        [
            ResidualBlock(channels, channels),
            AttentionBlock(channels),
            ResidualBlock(channels, channels),
        ]
    )


class Encoder(nn.Module):
    """Frames [T * B, 3, H, W] in [-1, 1] to moments [t * B, 2C, h, w]."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.dim * m for m in (1, *config.dim_mult)]
        self.conv1 = CausalConv3d(3, widths[0])
        layers: list[nn.Module] = []
        for stage, (inputs, outputs) in enumerate(pairwise(widths)):
            for block in range(config.num_res_blocks):
                layers.append(ResidualBlock(outputs if block else inputs, outputs))
            if stage < len(config.temporal_downsample):
                layers.append(Downsample(outputs, config.temporal_downsample[stage]))
        self.downsamples = nn.ModuleList(layers)
        self.middle = middle(widths[-1])
        self.head = Head(widths[-1], 2 * config.z_dim)

    def forward(self, x: Tensor, memory: Memory, num_frames: int | None = None) -> Tensor:
        """`num_frames`: x is one frame and stands for a clip of that many equal frames.

        Every causal convolution sees its input change during two frames more than the layer before
        it; after that all frames are equal. Only those are computed, which is exact and spares
        two thirds of the work at 73 frames.
        """
        total = num_frames or x.shape[0] // memory.batch
        x = self.conv1(hold(x, 2, total, memory.batch), memory)
        for layer in self.downsamples:
            halves = isinstance(layer, Downsample) and layer.time_conv is not None
            x = layer(hold(x, layer.growth, total, memory.batch, odd=halves), memory)
            total = 1 + (total - 1) // 2 if halves else total
        x = hold(x, total, total, memory.batch)
        for layer in self.middle:
            x = layer(x, memory)
        return self.head(x, memory)


def hold(x: Tensor, growth: int, total: int, batch: int, odd: bool = False) -> Tensor:
    """Repeat the last frame up to `growth` times, but to no more than `total` frames.

    With `odd` one frame more where their number would be even: time is halved as 1 + 2n -> 1 + n.
    """
    num_frames = x.shape[0] // batch
    wanted = num_frames + growth
    wanted = min(wanted + (odd and wanted % 2 == 0), total)
    if wanted == num_frames:
        return x
    return torch.cat([x, x[-batch:].repeat(wanted - num_frames, 1, 1, 1)])


class Decoder(nn.Module):
    """Latents [t * B, C, h, w] to frames [T * B, 3, H, W], unclamped."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        mult = (config.dim_mult[-1], *reversed(config.dim_mult))
        widths = [config.dim * m for m in mult]
        self.conv1 = CausalConv3d(config.z_dim, widths[0])
        self.middle = middle(widths[0])
        layers: list[nn.Module] = []
        temporal = tuple(reversed(config.temporal_downsample))
        for stage, (width, outputs) in enumerate(pairwise(widths)):
            inputs = width // 2 if stage else width  # an upsampling halves the channels
            for block in range(config.num_res_blocks + 1):
                layers.append(ResidualBlock(outputs if block else inputs, outputs))
            if stage < len(temporal):
                layers.append(Upsample(outputs, temporal[stage]))
        self.upsamples = nn.ModuleList(layers)
        self.head = Head(widths[-1], 3)

    def forward(self, z: Tensor, memory: Memory) -> Tensor:
        x = self.conv1(z, memory)
        for layer in (*self.middle, *self.upsamples):
            x = layer(x, memory)
        return self.head(x, memory)


class VAE(nn.Module):
    """Video [B, 3, T, H, W] in [-1, 1] to normalised latents [B, C, t, h, w] and back."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        if config.z_dim != len(LATENT_MEAN):
            raise ValueError(
                f"VAE: z_dim is {config.z_dim}, but mean and deviation are known "
                f"for {len(LATENT_MEAN)} channels"
            )
        self.encoder = Encoder(config)
        self.conv1 = Conv3d(2 * config.z_dim, 2 * config.z_dim, (1, 1, 1))
        self.conv2 = Conv3d(config.z_dim, config.z_dim, (1, 1, 1))
        self.decoder = Decoder(config)

    def moments(self, video: Tensor, num_frames: int | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, not normalised, each [B, C, t, h, w]."""
        batch = video.shape[0]
        x = self.encoder(frames_first(video), Memory(batch), num_frames)
        mean, log_variance = self.conv1(x, batch).split(x.shape[1] // 2, dim=1)
        return frames_third(mean, batch), frames_third(log_variance, batch)

    def encode(self, video: Tensor, num_frames: int | None = None) -> Tensor:
        """The posterior's mean, normalised; T must be 1 + 4n.

        `num_frames`: `video` is one picture [B, 3, 1, H, W], shown for so many frames.
        """
        total = num_frames or video.shape[2]
        if total % 4 != 1:
            raise ValueError(f"VAE: {total} frames to encode, wanted 1 + a multiple of 4")
        mean, _ = self.moments(video, num_frames)
        return (mean - constants(LATENT_MEAN, mean)) / constants(LATENT_STD, mean)

    def decode(
        self, latent: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Decode latents that follow on `state`, None at the start of a stream.

        Returns frames [B, 3, T, H, W], unclamped, and the next state: two input frames
        [2 * B, C, H, W] of each temporal convolution. T is 4t, at the start 4t - 3.
        """
        batch = latent.shape[0]
        memory = Memory(batch, state)
        z = latent * constants(LATENT_STD, latent) + constants(LATENT_MEAN, latent)
        frames = self.decoder(self.conv2(frames_first(z), batch), memory)
        return frames_third(frames, batch), memory.next


def constants(values: tuple[float, ...], like: Tensor) -> Tensor:
    """One value per channel of [B, C, T, H, W]."""
    return like.new_tensor(values).view(-1, 1, 1, 1)


def frames_first(video: Tensor) -> Tensor:
    """[B, C, T, H, W] -> [T * B, C, H, W]."""
    return video.permute(2, 0, 1, 3, 4).flatten(0, 1)


def frames_third(x: Tensor, batch: int) -> Tensor:
    """[T * B, C, H, W] -> [B, C, T, H, W]."""
    return x.unflatten(0, (-1, batch)).permute(1, 2, 0, 3, 4)
