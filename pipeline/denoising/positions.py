"""Rotary position tables of tokens, computed analytically (docs/method.md section 2). Adjacent
channels (2j, 2j+1) form a complex pair that is turned by angle_j * position; a head's pairs are
split in three: temporal, rows, columns."""

import numpy as np
from numpy.typing import NDArray

FloatTable = NDArray[np.float32]
Positions = NDArray[np.float64]
"""[tokens, 3]: temporal, row, column."""

THETA = 10_000.0


def axis_pairs(head_dim: int) -> tuple[int, int, int]:
    """How many channel pairs of a head turn with time, row and column."""
    third = head_dim // 2 // 3
    return head_dim // 2 - 2 * third, third, third


def axis_angles(head_dim: int) -> list[NDArray[np.float64]]:
    """Radians per position for the pairs of each axis (temporal, rows, columns)."""
    return [THETA ** (-np.arange(n, dtype=np.float64) / n) for n in axis_pairs(head_dim)]


def grid(frames: tuple[int, ...], token_grid: tuple[int, int], shrink: int = 1) -> Positions:
    """Positions of tokens in (frame, row, column) order. `shrink` 2 or 4 gives a coarser bucket:
    every axis of `token_grid` is spanned by that many times fewer tokens, end points included, cut
    to whole numbers."""
    rows, columns = (np.linspace(0, n - 1, n // shrink).astype(np.int64) for n in token_grid)
    axes = np.meshgrid(np.asarray(frames, np.int64), rows, columns, indexing="ij")
    positions: Positions = np.stack([axis.reshape(-1) for axis in axes], axis=1).astype(np.float64)
    return positions


def tables(positions: Positions, head_dim: int, to_half: bool = False) -> tuple[FloatTable, ...]:
    """cos and sin of every token, each [tokens, head_dim / 2]; `to_half` rounds to float16."""
    angles = np.concatenate(
        [positions[:, i : i + 1] * angle for i, angle in enumerate(axis_angles(head_dim))], axis=1
    )
    return rounded(np.cos(angles), to_half), rounded(np.sin(angles), to_half)


def rounded(table: NDArray[np.float64], to_half: bool) -> FloatTable:
    """The table in float32; `to_half` rounds it to float16 first."""
    if to_half:
        return table.astype(np.float16).astype(np.float32)
    return table.astype(np.float32)
