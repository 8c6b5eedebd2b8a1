"""The causal video VAE of Wan 2.1 (docs/method.md section 5): one network, two drivers.

B batch   T frames   t latent frames, T = 1 + 4(t - 1)   C = z_dim   H W pixels   h w = H/8, W/8

Encoder and decoder run over a whole clip at once; both also go block by block with their state as
an explicit list of tensors. Either way gives the same latents and frames.
"""

from abc import ABC, abstractmethod
from functools import partial
from itertools import pairwise

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
    frames_first,
    frames_third,
    held,
    hold,
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
    residual = partial(ResidualBlock, channels, channels)
    return nn.ModuleList([residual(), AttentionBlock(channels), residual()])


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
        """`num_frames`: x is one frame and stands for a clip of that many equal frames."""
        total = num_frames or x.shape[0] // memory.batch
        x = self.conv1(hold(x, 2, total, memory.batch), memory)
        x, _ = held(self.downsamples, x, memory, total)
        for layer in self.middle:
            x = layer(x, memory)
        return self.head(x, memory)


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


class CausalVAE(nn.Module, ABC):
    """Video [B, 3, T, H, W] in [-1, 1] to normalised latents [B, C, t, h, w] and back."""

    def moments(self, video: Tensor, num_frames: int | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, not normalised, each [B, C, t, h, w]. T must be 1
        + 4n, else ValueError. `num_frames`: `video` is one picture [B, 3, 1, H, W], shown for so
        many frames."""
        total = num_frames or video.shape[2]
        if total % 4 != 1:
            raise ValueError(f"VAE: {total} frames to encode, wanted 1 + a multiple of 4")
        batch = video.shape[0]
        x = self._encoded(frames_first(video), Memory(batch), num_frames)
        mean, log_variance = x.chunk(2, dim=1)
        return frames_third(mean, batch), frames_third(log_variance, batch)

    def encode(self, video: Tensor, num_frames: int | None = None) -> Tensor:
        """The posterior's mean, normalised; arguments as for `moments`."""
        mean, _ = self.moments(video, num_frames)
        return self.normalised(mean)

    def encode_on(
        self, video: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Encode frames [B, 3, T, H, W] that follow on `state`, T = 4n; at the start of a clip that
        is None, and T = 1 + 4n. Latents [B, C, t, h, w] as of `encode`. Beside them the next state:
        two input frames of each temporal convolution, one where time is halved."""
        batch, first = video.shape[0], int(state is None)
        if video.shape[2] % 4 != first:
            wanted = "1 + a multiple of 4" if first else "a multiple of 4"
            raise ValueError(f"VAE: {video.shape[2]} frames to encode, wanted {wanted}")
        memory = Memory(batch, state)
        mean, _ = self._encoded(frames_first(video), memory, None).chunk(2, dim=1)
        return self.normalised(frames_third(mean, batch)), memory.next

    def normalised(self, latent: Tensor) -> Tensor:
        """Raw latents [B, C, t, h, w] with the training data's mean and deviation taken out."""
        return (latent - self._mean(latent)) / self._deviation(latent)

    def decode(
        self, latent: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Decode latents that follow on `state`, None at the start of a stream, to frames [B, 3, T,
        H, W], unclamped, T = 4t, at the start 4t - 3. Beside them the next state: two input frames
        [2 * B, C, H, W] of each temporal convolution."""
        batch = latent.shape[0]
        memory = Memory(batch, state)
        raw = latent * self._deviation(latent) + self._mean(latent)
        frames = self._decoded(frames_first(raw), memory)
        return frames_third(frames, batch), memory.next

    @abstractmethod
    def _mean(self, like: Tensor) -> Tensor:
        """Of raw latents, [C, 1, 1, 1]."""

    @abstractmethod
    def _deviation(self, like: Tensor) -> Tensor:
        """Of raw latents, [C, 1, 1, 1]."""

    @abstractmethod
    def _encoded(self, x: Tensor, memory: Memory, num_frames: int | None) -> Tensor:
        """Frames [T * B, 3, H, W] to moments [t * B, 2C, h, w]."""

    @abstractmethod
    def _decoded(self, z: Tensor, memory: Memory) -> Tensor:
        """Raw latents [t * B, C, h, w] to frames [T * B, 3, H, W]."""


class VAE(CausalVAE):
    """Wan's network, under the checkpoint's keys."""

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

    def _mean(self, like: Tensor) -> Tensor:
        return like.new_tensor(LATENT_MEAN).view(-1, 1, 1, 1)

    def _deviation(self, like: Tensor) -> Tensor:
        return like.new_tensor(LATENT_STD).view(-1, 1, 1, 1)

    def _encoded(self, x: Tensor, memory: Memory, num_frames: int | None) -> Tensor:
        return self.conv1(self.encoder(x, memory, num_frames), memory.batch)

    def _decoded(self, z: Tensor, memory: Memory) -> Tensor:
        return self.decoder(self.conv2(z, memory.batch), memory)
