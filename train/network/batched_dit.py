"""The layers of `networks.dit.DiT` on a batch of clips, with gradients.

`networks` writes the DiT as it is served: one block, [L, D], a cache that is an input. Here the
same parameters run on [B, L, D]; who attends to whom is the caller's (`SelfAttention`).

B clips   L tokens   F latent frames of a block   S tokens of a latent frame   N heads   d head size
D = N * d width   C channels   h, w latent size
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from networks.block import Block
from networks.dit import MOTION, NOISY, REFERENCE, DiT
from networks.layers import PatchEmbedding, Projections
from pipeline.avatar.rope_tables import sink_grid
from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.positions import Positions, grid, tables
from train.network.quick_layers import attend, gelu, products, rms_norm

KeysValues: TypeAlias = tuple[Tensor, Tensor]  # k (before RoPE if not said) and v [B, N, tokens, d]

SelfAttention: TypeAlias = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Layer and q, k, v [B, N, L, d] before RoPE -> what was attended, [B, N, L, d]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What B streams show and say."""

    reference: Tensor  # [B, C, 1, h, w]
    motion: Tensor  # [B, C, motion frames, h, w], oldest first
    text: Tensor  # [B, text_len, text_dim]
    audio: Tensor  # [B, audio layers, audio width, video frames of all blocks]

    def rows(self, chosen: slice | Tensor) -> Self:
        return replace(self, **{f.name: getattr(self, f.name)[chosen] for f in fields(self)})


def frame_rotation(config: PipelineConfig, frames: ArrayLike, device: torch.device) -> Tensor:
    """Turns of the tokens of latent frames at positions `frames` [..., T]: complex [..., L, d/2]. A
    token's turn is that of its frame times that of its place in the frame."""
    times = np.asarray(frames, np.float64)
    positions = np.stack([times.ravel(), *[np.zeros(times.size)] * 2], 1)
    temporal = _turns(config, positions, device).unflatten(0, (*times.shape, 1))
    return (temporal * _turns(config, grid((0,), config.token_grid), device)).flatten(-3, -2)


def sink_rotation(config: PipelineConfig, references: ArrayLike, device: torch.device) -> Tensor:
    """Turns of the sink's tokens with references at positions [...]: complex [..., tokens, d/2]."""
    places = np.asarray(references)[..., None]
    reference = frame_rotation(config, places, device)
    motion = _turns(config, sink_grid(config, 0), device)[config.tokens_per_frame :]
    return torch.cat([reference, motion.expand(*reference.shape[:-2], *motion.shape)], -2)


def _turns(config: PipelineConfig, positions: Positions, device: torch.device) -> Tensor:
    cos, sin = tables(positions, config.head_dim, config.round_rope_to_half)
    return torch.complex(torch.from_numpy(cos), torch.from_numpy(sin)).to(device)


def sink_distance_of(config: PipelineConfig, given: int | None) -> int:
    """`given`, or the distance that is served; its largest if every step draws one."""
    if given is None:
        given = config.sink_distance
    return config.sink_distance_max if given is None else given


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn adjacent channel pairs of x [..., L, d] by `turns` [..., L, d/2] complex."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2)


def velocity(
    dit: DiT,
    latents: Tensor,
    modulations: tuple[Tensor, Tensor],
    self_attention: SelfAttention,
    text: list[KeysValues],
    audio: Tensor,
) -> Tensor:
    """Velocity of noisy latents [B, C, T, h, w], without a pose. `modulations` of blocks and head:
    [B or 1, 6, D] and [B or 1, D], or of every token, see `by_token`. `audio` as in `Conditions`,
    of the video frames that the latents are."""
    modulation, head_modulation = modulations
    x = _patches(dit.patch_embedding, latents)
    x = x + (dit.cond_encoder.bias + dit.trainable_cond_mask.weight[NOISY])
    x = _run_blocks(dit, x, modulation, self_attention, text, audio)
    head = dit.head
    if head_modulation.dim() == 2:
        head_modulation = head_modulation[:, None]
    shift, scale = (head.modulation[:, :, None] + head_modulation[:, None]).unbind(1)
    x = head.head(_modulated_norm(x, shift, scale, head.eps))
    batch, channels, frames, height, width = latents.shape
    p = head.patch
    x = x.reshape(batch, frames, height // p, width // p, p, p, channels)
    return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(latents.shape)


def _patches(embedding: PatchEmbedding, x: Tensor) -> Tensor:
    """[B, C, T, h, w] -> tokens [B, L, D]: time and batch are one axis to a patch of one frame."""
    assert embedding.kernel_size[0] == 1
    batch, channels, frames, height, width = x.shape
    x = x.transpose(0, 1).reshape(1, channels, batch * frames, height, width)
    return embedding(x).reshape(batch, -1, embedding.out_channels)


def by_token(rows: Tensor, num_tokens: int) -> Tensor:
    """Modulation [n, 6, D] or [n, D] of n blocks -> of all their tokens, [1, (6,) L, D]."""
    return rows.movedim(0, -2).repeat_interleave(num_tokens, -2)[None]


def text_keys_values(dit: DiT, text: Tensor) -> list[KeysValues]:
    """text [B, text_len, text_dim] -> K and V of every layer's cross-attention."""
    rows = dit.text_embedding(text)
    return [_keys_values(block.cross_attn, rows) for block in dit.blocks]


def sink_keys_values(
    dit: DiT,
    reference: Tensor,
    motion: Tensor,
    text: list[KeysValues],
    config: PipelineConfig,
) -> list[KeysValues]:
    """K and V of the sink in every layer, as of timestep 0."""
    clean, _ = dit.modulations(reference.new_zeros(1))
    kinds = dit.trainable_cond_mask.weight
    packed = torch.stack([dit.frame_packer(clip[None]) for clip in motion])
    parts = [_patches(dit.patch_embedding, reference) + kinds[REFERENCE], packed + kinds[MOTION]]
    turns = sink_rotation(config, config.sink_position, reference.device)
    kept: list[KeysValues] = []

    def among_themselves(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        kept.append((k, v))
        return attend(rotate(q, turns), rotate(k, turns), v)

    _run_blocks(dit, torch.cat(parts, dim=1), clean, among_themselves, text)
    return kept


def _run_blocks(
    dit: DiT,
    x: Tensor,
    modulation: Tensor,
    self_attention: SelfAttention,
    text: list[KeysValues],
    audio: Tensor | None = None,
) -> Tensor:
    """All transformer blocks on x [B, L, D]; the sink has no `audio`."""
    tokens = None if audio is None else _audio_tokens(dit, audio)
    if modulation.dim() == 3:
        modulation = modulation[:, :, None]
    with products(x.device):
        for layer, block in enumerate(dit.blocks):
            x = _run_block(block, layer, x, modulation, self_attention, text[layer])
            if tokens is not None and layer in dit.config.inject_layers:
                index = dit.config.inject_layers.index(layer)
                spoken = dit.audio_injector(index, x.flatten(0, 1), tokens, x.new_ones(1, 1, 1))
                x = spoken.view_as(x)
    return x


def _audio_tokens(dit: DiT, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Local and global tokens of all frames of all clips, as of one long block: [1, B * T, ...]."""
    # Two convolutions of stride 2 make a latent frame of four video frames; a block hears its own.
    length = 4 * dit.config.frames_per_block
    pieces = audio.unflatten(-1, (-1, length)).movedim(-2, 1).flatten(0, 1)
    local, overall = dit.casual_audio_encoder(pieces)
    return local.flatten(0, 1)[None], overall.flatten(0, 1)[None]


def _run_block(
    block: Block,
    layer: int,
    x: Tensor,
    modulation: Tensor,
    self_attention: SelfAttention,
    text: KeysValues,
) -> Tensor:
    parts = (block.modulation[:, :, None] + modulation).unbind(1)
    shift1, scale1, gate1, shift2, scale2, gate2 = parts
    attention = block.self_attn
    normed = _modulated_norm(x, shift1, scale1, block.eps)
    k, v = _keys_values(attention, normed)
    attended = self_attention(layer, _queries(attention, normed), k, v)
    x = torch.addcmul(x, gate1, _projected(attention, attended))
    attention = block.cross_attn
    attended = attend(_queries(attention, block.norm3(x)), *text)
    x = x + _projected(attention, attended)
    first, _, last = block.ffn
    fed = last(gelu(first(_modulated_norm(x, shift2, scale2, block.eps))))
    return torch.addcmul(x, gate2, fed)


def _queries(attention: Projections, x: Tensor) -> Tensor:
    """x [B, L, D] -> [B, N, L, d]."""
    q = rms_norm(attention.q(x), attention.norm_q.weight, attention.norm_q.eps)
    return _heads(attention, q)


def _keys_values(attention: Projections, x: Tensor) -> KeysValues:
    """x [B, L, D] -> k and v, each [B, N, L, d]."""
    k = rms_norm(attention.k(x), attention.norm_k.weight, attention.norm_k.eps)
    return _heads(attention, k), _heads(attention, attention.v(x))


def _heads(attention: Projections, x: Tensor) -> Tensor:
    return x.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)


def _projected(attention: Projections, attended: Tensor) -> Tensor:
    """[B, N, L, d] -> [B, L, D]."""
    return attention.o(attended.transpose(1, 2).flatten(2))


def _modulated_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)
