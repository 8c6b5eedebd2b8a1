"""What tokens of a clip see and where they stand: masks and position tables, in PyTorch.

F latent frames   S tokens of a frame   L = F * S tokens   K keys   d head size
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

THETA = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """Where queries and keys stand, RoPE tables [1, tokens, d/2], and which keys are seen.

    `seen` [1, 1, L, K] bool; None: all of them.
    """

    cos_q: Tensor
    sin_q: Tensor
    cos_k: Tensor
    sin_k: Tensor
    seen: Tensor | None = None


def rope_tables(
    positions: Tensor, grid: tuple[int, int], head_dim: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """cos and sin [1, F * rows * columns, head_dim / 2] of frames at `positions` [F].

    Of a head's channel pairs the first turn with time, then a third with row and one with column.
    Computed in float64.
    """
    third = head_dim // 2 // 3
    rows, columns = (torch.arange(n, device=positions.device) for n in grid)
    places = torch.meshgrid(positions, rows, columns, indexing="ij")
    angles = []
    for place, pairs in zip(places, (head_dim // 2 - 2 * third, third, third), strict=True):
        powers = torch.arange(pairs, dtype=torch.float64, device=positions.device) / pairs
        angles.append(place.reshape(-1, 1).double() * THETA**-powers)
    angle = torch.cat(angles, dim=1)[None]
    return angle.cos().to(dtype), angle.sin().to(dtype)


def block_causal(
    num_frames: int,
    frames_per_block: int,
    tokens_per_frame: int,
    device: torch.device | str = "cpu",
    local_frames: int | None = None,
) -> Tensor:
    """bool [1, 1, L, L]: a token sees the tokens of its own block and of those before it.

    With `local_frames` only the last so many frames up to the end of its own block.
    """
    block = torch.arange(num_frames, device=device) // frames_per_block
    seen = block[:, None] >= block[None]
    if local_frames is not None:
        first = (block + 1) * frames_per_block - local_frames
        seen &= torch.arange(num_frames, device=device)[None] >= first[:, None]
    return _by_token(seen, tokens_per_frame)


def teacher_forcing(
    num_frames: int,
    frames_per_block: int,
    tokens_per_frame: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """bool [1, 1, 2L, 2L] of [clean | noisy]: clean blocks are causal among themselves; a noisy
    block sees the clean blocks before it, and itself.
    """
    block = torch.arange(num_frames, device=device) // frames_per_block
    before, same = block[:, None] > block[None], block[:, None] == block[None]
    clean = torch.cat([before | same, torch.zeros_like(same)], dim=1)
    noisy = torch.cat([before, same], dim=1)
    return _by_token(torch.cat([clean, noisy]), tokens_per_frame)


def _by_token(seen: Tensor, tokens_per_frame: int) -> Tensor:
    rows = seen.repeat_interleave(tokens_per_frame, 0)
    return rows.repeat_interleave(tokens_per_frame, 1)[None, None]
