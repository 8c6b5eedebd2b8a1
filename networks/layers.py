"""Building blocks of the DiT: each runs in eager PyTorch and exports to one ONNX operator.

B batch   L tokens   K cache tokens   N heads   d head size   D = N * d width

Activations are [L, D]: the served batch is 1 and a matrix times a weight is then a single Gemm.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OPSET = 24


def write_cache(cache: Tensor, update: Tensor, write_index: Tensor) -> Tensor:
    """`cache` [1, N, K, d] with `update` [1, N, L, d] at rows write_index [1] and the following.

    ONNX TensorScatter, which an engine runs in place when input and output share their memory.
    """
    if torch.onnx.is_in_onnx_export():
        return torch.onnx.ops.symbolic(
            "TensorScatter",
            [cache, update, write_index],
            {"axis": -2, "mode": "linear"},
            dtype=cache.dtype,
            shape=cache.shape,
            version=OPSET,
        )
    rows = write_index + torch.arange(update.shape[2], device=cache.device)
    return cache.index_copy(2, rows, update)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn adjacent channel pairs of x [1, N, L, d] by the angles of cos, sin [1, L, d/2]."""
    if torch.onnx.is_in_onnx_export():
        return torch.onnx.ops.rotary_embedding(x, cos, sin, interleaved=True)
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    """Softmax attention of q [B, N, L, d] over k, v [B, N, K, d]; scale 1/sqrt(d).

    Keys where `seen` [1, 1, L, K] is False are left out; None means that all are seen.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift for x [L, D], shift and scale [D]: one operator."""
    return F.layer_norm(x, (x.shape[-1],), 1 + scale, shift, eps)


def framewise_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift for frames x [G, S, D], shift and scale [G, 1, D]."""
    return F.layer_norm(x, (x.shape[-1],), eps=eps) * (1 + scale) + shift


def sinusoids(timesteps: Tensor, width: int) -> Tensor:
    """Timesteps [T] in 0..1000 -> their cosines, then sines, float64 [T, width]."""
    half = width // 2
    powers = torch.arange(half, dtype=torch.float64, device=timesteps.device) / half
    angles = timesteps.double()[:, None] * 10_000.0**-powers
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def patchify(x: Tensor, kernel: tuple[int, int, int]) -> Tensor:
    """[1, C, T, h, w] -> [tokens, C * kt * kh * kw], tokens in (frame, row, column) order."""
    _, channels, *sizes = x.shape
    frames, rows, columns = (size // k for size, k in zip(sizes, kernel, strict=True))
    x = x.reshape(channels, frames, kernel[0], rows, kernel[1], columns, kernel[2])
    return x.permute(1, 3, 5, 0, 2, 4, 6).reshape(frames * rows * columns, -1)


class PatchEmbedding(nn.Conv3d):
    """A convolution whose stride is its kernel, computed as one matrix product.

    x [1, C, T, h, w] -> [tokens, D]. The parameters are those of the convolution.
    """

    def __init__(self, channels: int, dim: int, kernel: tuple[int, int, int]) -> None:
        super().__init__(channels, dim, kernel, stride=kernel)
        self._kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        tokens = patchify(x, self._kernel)
        return F.linear(tokens, self.weight.reshape(self.out_channels, -1), self.bias)


class Projections(nn.Module):
    """q, k, v, o of an attention, q and k RMS-normalised over the full width."""

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = nn.RMSNorm(dim, eps)
        self.norm_k = nn.RMSNorm(dim, eps)

    def queries(self, x: Tensor, length: int) -> Tensor:
        """x [B * length, D] -> [B, N, length, d]."""
        return self._heads(self.norm_q(self.q(x)), length)

    def keys_values(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """x [B * length, D] -> k and v, each [B, N, length, d]."""
        return self._heads(self.norm_k(self.k(x)), length), self._heads(self.v(x), length)

    def project(self, heads: Tensor) -> Tensor:
        """Attention's result [B, N, L, d] -> [B * L, D]."""
        return self.o(heads.transpose(1, 2).reshape(-1, self.num_heads * self.head_dim))

    def _heads(self, x: Tensor, length: int) -> Tensor:
        return x.reshape(-1, length, self.num_heads, self.head_dim).transpose(1, 2)
