"""Where tokens of a clip stand and what they see, in PyTorch.

F latent frames   S tokens of a frame   L = F * S tokens   K keys   d head size
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from networks.block import Rotation

THETA = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight(Rotation):
    """Where queries and keys stand, and which keys are seen.

    `seen` [1, 1, L, K] bool; None: all of them.
    """

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
