"""A transformer block of the DiT and its output head (docs/method.md sections 3 and 10).

L tokens   K cache tokens   N heads   d head size   D width
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from networks.configs import DiTConfig
from networks.layers import Projections, attend, modulated_norm, rotate, write_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """Where queries and keys stand, RoPE tables [1, tokens, d/2], and which keys are seen.

    `seen` [1, 1, L, K] bool; None: all that `cos_k` has rows for, of a cache the first ones.
    """

    cos_q: Tensor
    sin_q: Tensor
    cos_k: Tensor
    sin_k: Tensor
    seen: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheView:
    """One layer's cache before the write [1, N, K, d], and where to write."""

    k: Tensor
    v: Tensor
    write_index: Tensor

    def after(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The cache's k and v once those of the tokens [1, N, L, d] are written."""
        index = self.write_index
        return write_cache(self.k, k, index), write_cache(self.v, v, index)


class SelfAttention(Projections):
    """Attention over the cache, to which the tokens' own K (before RoPE) and V are added first."""

    def forward(self, x: Tensor, sight: Sight, cache: CacheView) -> tuple[Tensor, Tensor, Tensor]:
        """x [L, D] -> result [L, D] and the cache after the write, k and v [1, N, K, d]."""
        q = rotate(self.queries(x, x.shape[0]), sight.cos_q, sight.sin_q)
        k, v = cache.after(*self.keys_values(x, x.shape[0]))
        filled = sight.cos_k.shape[1]
        keys = rotate(k[:, :, :filled], sight.cos_k, sight.sin_k)
        return self.project(attend(q, keys, v[:, :, :filled])), k, v


class CrossAttention(Projections):
    """Attention to the text, whose K and V are computed once per prompt."""

    def forward(self, x: Tensor, text_k: Tensor, text_v: Tensor) -> Tensor:
        """x [L, D], text_k and text_v [1, N, text_len, d] -> [L, D]."""
        return self.project(attend(self.queries(x, x.shape[0]), text_k, text_v))


class Block(nn.Module):
    """One transformer block."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim, self.eps = config.dim, config.eps
        self.modulation = nn.Parameter(torch.zeros(1, 6, dim))
        self.self_attn = SelfAttention(dim, config.num_heads, config.eps)
        self.norm3 = nn.LayerNorm(dim, config.eps)
        self.cross_attn = CrossAttention(dim, config.num_heads, config.eps)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config.ffn_dim), nn.GELU("tanh"), nn.Linear(config.ffn_dim, dim)
        )

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        sight: Sight,
        cache: CacheView,
        text: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [L, D], modulation [1, 6, D] -> x and the layer's cache after the write."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + modulation)[0].unbind(0)
        normed = modulated_norm(x, shift1, scale1, self.eps)
        attended, k, v = self.self_attn(normed, sight, cache)
        x = x + gate1 * attended
        x = x + self.cross_attn(self.norm3(x), *text)
        x = x + gate2 * self.ffn(modulated_norm(x, shift2, scale2, self.eps))
        return x, k, v


class Head(nn.Module):
    """Tokens to the velocity of their patches."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.eps, self.patch, self.channels = config.eps, config.patch_size, config.channels
        self.modulation = nn.Parameter(torch.zeros(1, 2, config.dim))
        self.head = nn.Linear(config.dim, self.patch**2 * self.channels)

    def forward(self, x: Tensor, head_modulation: Tensor) -> Tensor:
        """x [L, D], head_modulation [1, D] -> patches [L, patch^2 * C]: row, column, channel."""
        shift, scale = (self.modulation[0] + head_modulation).unbind(0)
        return self.head(modulated_norm(x, shift, scale, self.eps))
