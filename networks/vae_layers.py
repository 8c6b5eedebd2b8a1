"""Layers of the causal video VAE (docs/method.md section 5), for clips and for streams.

B batch   T frames   C channels   H W height, width

Inside the network a clip is `[T * B, C, H, W]`, time first: rows `t * B .. t * B + B - 1` are frame
t. A step in time is then a slice of whole rows, every convolution is two-dimensional, and nothing
is transposed. Weights keep the five-dimensional shapes of the checkpoint.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Memory:
    """What the causal convolutions of one pass saw before it, in the order of their calls. `past`
    holds two input frames `[2 * B, C, H, W]` per convolution, None at the start of a stream, where
    history is zero; `next` the same for the pass that follows. Where time is halved one frame is
    held, `[B, C, H, W]`."""

    def __init__(self, batch: int, past: list[Tensor] | None = None) -> None:
        self.batch = batch
        self.past = past
        self.next: list[Tensor] = []

    @property
    def at_start(self) -> bool:
        return self.past is None

    def extend(self, x: Tensor) -> Tensor:
        """Put the two earlier frames before `x`: [T * B, …] -> [(T + 2) * B, …]."""
        rows = 2 * self.batch
        past = None if self.past is None else self.past[len(self.next)]
        x = torch.cat([x.new_zeros(rows, *x.shape[1:]) if past is None else past, x])
        self.next.append(x[-rows:])
        return x

    def last(self, x: Tensor) -> Tensor | None:
        """The frame [B, C, H, W] before `x`, None at the start of a stream; it holds that of x."""
        past = None if self.past is None else self.past[len(self.next)]
        self.next.append(x[-self.batch :])
        return past


class Conv3d(nn.Module):
    """A 3-D convolution as a 2-D one over the frames of its window side by side, for which ONNX
    Runtime has fast kernels; the permuted weight is a constant of the graph. In space the size
    stays; in time the window is "valid": `[(T + kernel - 1) * B, in, H, W]` -> `[T * B, out, H,
    W]`, stride 2 halves T."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor, batch: int, stride: int = 1) -> Tensor:
        outputs, _, kernel, side, _ = self.weight.shape
        if kernel > 1:
            x = windows(x, batch, kernel, stride)
        weight = self.weight.transpose(1, 2).reshape(outputs, -1, side, side)
        return F.conv2d(x, weight, self.bias, padding=side // 2)


def windows(x: Tensor, batch: int, kernel: int, stride: int) -> Tensor:
    """Frames i * stride … i * stride + kernel - 1 side by side, for i = 0, 1, … [(T + kernel - 1) *
    B, C, H, W] -> [T * B, kernel * C, H, W], one copy of whole frames."""
    count = max((x.shape[0] // batch - kernel) // stride + 1, 0)
    rows = [
        (i * stride + offset) * batch + clip
        for i in range(count)
        for clip in range(batch)
        for offset in range(kernel)
    ]
    index = torch.tensor(rows, dtype=torch.int64, device=x.device)
    return x.index_select(0, index).reshape(count * batch, kernel * x.shape[1], *x.shape[2:])


class CausalConv3d(Conv3d):
    """3x3x3 convolution (or 3x1x1) that sees the current frame and the two before it."""

    def __init__(self, inputs: int, outputs: int, side: int = 3) -> None:
        super().__init__(inputs, outputs, (3, side, side))

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        return super().forward(memory.extend(x), memory.batch)


class ChannelNorm(nn.Module):
    """x / max(|x|, 1e-12) * sqrt(C) * gamma, the length taken over the channels of a pixel."""

    def __init__(self, channels: int, dims: int = 4) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * (dims - 1)))

    def forward(self, x: Tensor) -> Tensor:
        # Not F.normalize: ONNX Runtime sums over channels fast, but has no fast ReduceL2.
        length = (x * x).sum(dim=1, keepdim=True).sqrt().clamp_min(1e-12)
        scale = self.gamma.reshape(-1, 1, 1) * self.gamma.shape[0] ** 0.5
        return x * length.reciprocal() * scale


class Layer(nn.Module):
    """A step of an encoder, [T * B, …] and a `Memory` to [T' * B, …]."""

    growth = 0
    """Frames by which its causal convolutions lengthen the transient of a still clip."""
    halves_time = False
    """Whether 1 + 2n frames become 1 + n."""


class ResidualBlock(Layer):
    """Norm, SiLU, convolution, twice, around a shortcut."""

    growth = 4

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual = nn.ModuleDict(
            {
                "0": ChannelNorm(inputs),
                "2": CausalConv3d(inputs, outputs),
                "3": ChannelNorm(outputs),
                "6": CausalConv3d(outputs, outputs),
            }
        )
        self.shortcut = None if inputs == outputs else Conv3d(inputs, outputs, (1, 1, 1))

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        y = self.residual["2"](F.silu(self.residual["0"](x)), memory)
        y = self.residual["6"](F.silu(self.residual["3"](y)), memory)
        return y + (x if self.shortcut is None else self.shortcut(x, memory.batch))


class AttentionBlock(nn.Module):
    """Single-head attention over the pixels of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, dims=3)
        self.to_qkv = nn.Conv2d(channels, channels * 3, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, _memory: Memory) -> Tensor:
        tokens = self.to_qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1)
        y = F.scaled_dot_product_attention(*tokens.split(x.shape[1], dim=-1))
        y = y.squeeze(1).transpose(1, 2).reshape(x.shape)
        return x + self.proj(y)


class Downsample(Layer):
    """Half the height and width; `temporal` also halves the frames after the first one."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels, 3, stride=2)})
        self.time_conv = Conv3d(channels, channels, (3, 1, 1)) if temporal else None
        self.growth = 2 if temporal else 0
        self.halves_time = temporal

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        x = self.resample["1"](F.pad(x, (0, 1, 0, 1)))
        if self.time_conv is None:
            return x
        # Output j > 0 sees frames 2j-2, 2j-1 and 2j; a stream's first frame passes as it is.
        if (before := memory.last(x)) is not None:
            return self.time_conv(torch.cat([before, x]), memory.batch, stride=2)
        if x.shape[0] == memory.batch:
            return x
        return torch.cat([x[: memory.batch], self.time_conv(x, memory.batch, stride=2)])


class Upsample(nn.Module):
    """Twice the height and width at half the channels; `temporal` also doubles the frames after a
    stream's first one, which is no history for the second one either."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels // 2, 3, padding=1)})
        self.time_conv = CausalConv3d(channels, channels * 2, side=1) if temporal else None

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        if self.time_conv is not None:
            num_single = memory.batch if memory.at_start else 0
            doubled = self.double(self.time_conv(x[num_single:], memory), memory.batch)
            x = torch.cat([x[:num_single], doubled]) if num_single else doubled
        return self.resample["1"](F.interpolate(x, scale_factor=2.0, mode="nearest"))

    @staticmethod
    def double(x: Tensor, batch: int) -> Tensor:
        """Channels [even frame | odd frame] to frames: [T * B, 2C, …] -> [2T * B, C, …]."""
        channels = x.shape[1] // 2
        x = x.reshape(-1, batch, 2, channels, *x.shape[2:])
        return x.transpose(1, 2).flatten(0, 2)


def held(layers: nn.ModuleList, x: Tensor, memory: Memory, total: int) -> tuple[Tensor, int]:
    """x, which stands for a clip of `total` frames, through layers; and how many frames come out.
    Of a still clip the first frame may do: after the transient, which grows by two frames with each
    causal convolution, all frames are equal and are not computed."""
    for layer in layers:
        x = layer(hold(x, layer.growth, total, memory.batch, odd=layer.halves_time), memory)
        total = 1 + (total - 1) // 2 if layer.halves_time else total
    return hold(x, total, total, memory.batch), total


def hold(x: Tensor, growth: int, total: int, batch: int, odd: bool = False) -> Tensor:
    """Repeat the last frame up to `growth` times, but to no more than `total` frames. With `odd`
    one frame more where their number would be even: time is halved as 1 + 2n -> 1 + n."""
    num_frames = x.shape[0] // batch
    wanted = num_frames + growth
    wanted = min(wanted + (odd and wanted % 2 == 0), total)
    if wanted == num_frames:
        return x
    return torch.cat([x, x[-batch:].repeat(wanted - num_frames, 1, 1, 1)])


def frames_first(video: Tensor) -> Tensor:
    """[B, C, T, H, W] -> [T * B, C, H, W]."""
    return video.permute(2, 0, 1, 3, 4).flatten(0, 1)


def frames_third(x: Tensor, batch: int) -> Tensor:
    """[T * B, C, H, W] -> [B, C, T, H, W]."""
    return x.unflatten(0, (-1, batch)).permute(1, 2, 0, 3, 4)
