"""Wan 2.1's text-to-video transformer, causal variant (arXiv 2503.20314; docs/method.md, 10).

B batch   C latent channels   F latent frames   h, w latent size   S tokens of a latent frame
L = F * S tokens   N heads   d head size   D width   G = B * F frames of a batch

`CausalWan` holds the released checkpoint's tensors. Calling it is the full-sequence forward without
a cache, which training differentiates: bidirectional or under a mask. `velocity` is what every use
shares; `networks.wan_stream` has the uses with a cache.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from networks.block import Block, Head, Sight
from networks.configs import WanConfig
from networks.layers import PatchEmbedding, attend, framewise_norm, rotate
from networks.transformer import KeysValues, Transformer

THETA = 10_000.0
Recall = Callable[[int, Tensor, Tensor], KeysValues]
"""Layer number and its tokens' own K and V -> K (before RoPE) and V of all that is attended."""


class WanBlock(Block):
    """A transformer block whose timestep differs from frame to frame."""

    attend = staticmethod(attend)
    """Training has a quicker one for a CPU."""

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        sight: Sight,
        text: KeysValues,
        recall: Callable[[Tensor, Tensor], KeysValues],
    ) -> Tensor:
        """x [G, S, D], modulation [G, 6, D], text K and V [B, N, text_len, d] -> x."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self._rows(modulation)
        attended = self._attend(framewise_norm(x, shift1, scale1, self.eps), sight, recall)
        x = x + gate1 * attended.view_as(x)
        length = sight.cos_q.shape[1]
        queries = self.cross_attn.queries(self.norm3(x).flatten(0, 1), length)
        x = x + self.cross_attn.project(self.attend(queries, *text)).view_as(x)
        normed = framewise_norm(x, shift2, scale2, self.eps)
        return x + gate2 * self.ffn(normed.flatten(0, 1)).view_as(x)

    def own_keys_values(self, x: Tensor, modulation: Tensor, sight: Sight) -> KeysValues:
        """K (before RoPE) and V of the tokens themselves."""
        shift, scale, *_ = self._rows(modulation)
        tokens = framewise_norm(x, shift, scale, self.eps).flatten(0, 1)
        return self.self_attn.keys_values(tokens, sight.cos_q.shape[1])

    def _rows(self, modulation: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale, gate of attention and of FFN, each [G, 1, D]."""
        return (self.modulation + modulation).unsqueeze(2).unbind(1)

    def _attend(
        self, x: Tensor, sight: Sight, recall: Callable[[Tensor, Tensor], KeysValues]
    ) -> Tensor:
        tokens, length = x.flatten(0, 1), sight.cos_q.shape[1]
        queries = rotate(self.self_attn.queries(tokens, length), sight.cos_q, sight.sin_q)
        k, v = recall(*self.self_attn.keys_values(tokens, length))
        keys = rotate(k, sight.cos_k, sight.sin_k)
        return self.self_attn.project(self.attend(queries, keys, v, sight.seen))


class WanHead(Head):
    """Tokens to velocity, modulated frame by frame."""

    def forward(self, x: Tensor, head_modulation: Tensor, shape: torch.Size) -> Tensor:
        """x [G, S, D], head_modulation [G, D] -> [B, C, F, h, w] = `shape`."""
        shift, scale = (self.modulation + head_modulation.unsqueeze(1)).unsqueeze(2).unbind(1)
        x = self.head(framewise_norm(x, shift, scale, self.eps).flatten(0, 1))
        batch, channels, frames, height, width = shape
        p = self.patch
        x = x.reshape(batch, frames, height // p, width // p, p, p, channels)
        return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, channels, frames, height, width)


class CausalWan(Transformer):
    """All tensors of a Wan 2.1 checkpoint, under its keys (the release prefixes them `model.`)."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.config = config
        dim, patch = config.dim, config.patch_size
        self.patch_embedding = PatchEmbedding(config.channels, dim, (1, patch, patch))
        self.add_conditioning(config)
        self.blocks = nn.ModuleList(WanBlock(config) for _ in range(config.num_layers))
        self.head = WanHead(config)

    def forward(
        self,
        latent: Tensor,
        timesteps: Tensor,
        text: Tensor,
        seen: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Velocity (noise - clean) of a whole clip, as latent, without a cache; differentiable.
        latent [B, C, F, h, w], timesteps [B, F] in 0..1000, text [B, text_len, text_dim]. `seen`
        [1, 1, L, L] bool; None: every frame sees every other. `positions` [F] of the frames in
        time; None: 0, 1, 2 and so on."""
        if positions is None:
            positions = torch.arange(latent.shape[2], device=latent.device)
        cos, sin = self.rope(positions, latent)
        sight = Sight(cos_q=cos, sin_q=sin, cos_k=cos, sin_k=sin, seen=seen)
        modulation, head_modulation = self.modulations(timesteps.flatten())
        texts = self.text_keys_values(text)
        return self.velocity(
            latent, modulation, head_modulation, sight, texts, lambda _, k, v: (k, v)
        )

    def velocity(
        self,
        latent: Tensor,
        modulation: Tensor,
        head_modulation: Tensor,
        sight: Sight,
        texts: list[KeysValues],
        recall: Recall,
    ) -> Tensor:
        """latent [B, C, F, h, w], modulation [G, 6, D], head_modulation [G, D] -> velocity."""
        x = self.tokens(latent)
        for i, (block, text) in enumerate(zip(self.blocks, texts, strict=True)):
            x = block(x, modulation, sight, text, partial(recall, i))
        return self.head(x, head_modulation, latent.shape)

    def store(
        self,
        latent: Tensor,
        modulation: Tensor,
        sight: Sight,
        texts: list[KeysValues],
        recall: Recall,
    ) -> None:
        """The same for what `recall` keeps of it: ends at the last layer's K and V, before its
        text, which is not among `texts`."""
        x = self.tokens(latent)
        *blocks, last = self.blocks
        for i, (block, text) in enumerate(zip(blocks, texts, strict=True)):
            x = block(x, modulation, sight, text, partial(recall, i))
        recall(len(blocks), *last.own_keys_values(x, modulation, sight))

    def tokens(self, latent: Tensor) -> Tensor:
        """latent [B, C, F, h, w] -> tokens [G, S, D], (row, column) within a frame."""
        batch, channels, frames, *size = latent.shape
        if batch > 1:  # frames of all clips in one row: a patch covers one frame
            latent = latent.transpose(0, 1).reshape(1, channels, batch * frames, *size)
        x = self.patch_embedding(latent)
        return x.reshape(-1, self.tokens_per_frame(latent), self.config.dim)

    def tokens_per_frame(self, latent: Tensor) -> int:
        patch = self.config.patch_size
        return (latent.shape[3] // patch) * (latent.shape[4] // patch)

    def rope(self, positions: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """cos, sin [1, L, d/2] of frames at temporal `positions` [F], sized as `latent`."""
        patch = self.config.patch_size
        grid = (latent.shape[3] // patch, latent.shape[4] // patch)
        return rope_tables(positions, grid, self.config.head_dim, latent.dtype)


def rope_tables(
    positions: Tensor, grid: tuple[int, int], head_dim: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """cos and sin [1, F * rows * columns, head_dim / 2] of frames at `positions` [F], from float64.
    Of a head's channel pairs the first turn with time, then a third with row and one with
    column."""
    third = head_dim // 2 // 3
    rows, columns = (torch.arange(n, device=positions.device) for n in grid)
    places = torch.meshgrid(positions, rows, columns, indexing="ij")
    angles = []
    for place, pairs in zip(places, (head_dim // 2 - 2 * third, third, third), strict=True):
        powers = torch.arange(pairs, dtype=torch.float64, device=positions.device) / pairs
        angles.append(place.reshape(-1, 1).double() * THETA**-powers)
    angle = torch.cat(angles, dim=1)[None]
    return angle.cos().to(dtype), angle.sin().to(dtype)


def wan_key(key: str) -> str:
    """The released checkpoint's key without its prefixes."""
    return key.replace("_fsdp_wrapped_module.", "").removeprefix("model.")
