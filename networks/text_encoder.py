"""The umT5 encoder under Wan's names (spec/live_avatar section 10).

B batch   L tokens, padding included   N heads   D head size

Attention is not scaled, no layer has biases, and each layer owns its relative position bias.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.presets import TextEncoderConfig

MAX_DISTANCE = 128
"""Tokens further apart than this share one bucket per side."""


def distance_buckets(num_buckets: int) -> list[int]:
    """Bucket of each distance key - query in -MAX_DISTANCE..MAX_DISTANCE.

    Half of the buckets serve keys after the query. Of each half, half are single distances and the
    others grow logarithmically.
    """
    half = num_buckets // 2
    exact = half // 2
    growth = (half - exact) / math.log(MAX_DISTANCE / exact)
    buckets = []
    for distance in range(-MAX_DISTANCE, MAX_DISTANCE + 1):
        bucket = length = abs(distance)
        if length >= exact:
            # Where the logarithm is a whole number, rounding must not fall below it.
            bucket = exact + int(math.log(length / exact) * growth + 1e-9)
        buckets.append(min(bucket, half - 1) + half * (distance > 0))
    return buckets


class PositionBias(nn.Module):
    def __init__(self, num_buckets: int, num_heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_buckets, num_heads)

    def forward(self, length: int) -> Tensor:
        """Bias [1, N, L, L] of query row and key column."""
        weight = self.embedding.weight
        buckets = torch.tensor(distance_buckets(weight.shape[0]), device=weight.device)
        place = torch.arange(length, device=weight.device)
        distance = (place - place.unsqueeze(1)).clamp(-MAX_DISTANCE, MAX_DISTANCE)
        by_distance = weight.index_select(0, buckets)
        return F.embedding(distance + MAX_DISTANCE, by_distance).permute(2, 0, 1).unsqueeze(0)


class Attention(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        for name in ("q", "k", "v"):
            self.add_module(name, nn.Linear(config.dim, config.dim_attn, bias=False))
        self.o = nn.Linear(config.dim_attn, config.dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        heads = (self.num_heads, -1)
        q, k, v = (f(x).unflatten(-1, heads).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """fc2(fc1(x) * gelu(gate(x)))."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(config.dim, config.dim_ffn, bias=False))
        self.fc1 = nn.Linear(config.dim, config.dim_ffn, bias=False)
        self.fc2 = nn.Linear(config.dim_ffn, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x) * F.gelu(self.gate(x), approximate="tanh"))


class Layer(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(config.dim, eps=1e-6)
        self.attn = Attention(config)
        self.norm2 = nn.RMSNorm(config.dim, eps=1e-6)
        self.ffn = FeedForward(config)
        self.pos_embedding = PositionBias(config.num_buckets, config.num_heads)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        bias = self.pos_embedding(x.shape[1])
        bias = torch.where(allowed, bias, torch.finfo(x.dtype).min)
        x = x + self.attn(self.norm1(x), bias)
        return x + self.ffn(self.norm2(x))


class TextEncoder(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab, config.dim)
        self.blocks = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Rows [B, L, dim]; those of padding, where `token_mask` is 0, are zero.

        `token_ids` and `token_mask` are [B, L] int64.
        """
        # The mask has a row per query: ONNX Runtime wants [B, 1, L, L].
        allowed = token_mask.bool()[:, None, None].expand(-1, 1, token_ids.shape[1], -1)
        x = self.token_embedding(token_ids)
        for block in self.blocks:
            x = block(x, allowed)
        return self.norm(x) * token_mask.unsqueeze(-1)
