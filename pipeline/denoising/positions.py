"""Rotary position tables of query block and cache, computed analytically (live_avatar 6.5).

Adjacent channels (2j, 2j+1) form a complex pair that is turned by angle_j * position. The pairs of
a head are split in three: temporal, rows, columns. Keys are cached before rotation, so a token is
moved in time by writing other numbers here; nothing in the cache changes.

K tokens of the cache, Q tokens of a block, S tokens of a latent frame, d channels of a head.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.config.avatar import PipelineConfig

FloatTable = NDArray[np.float32]
Positions = NDArray[np.float64]
"""[tokens, 3]: temporal, row, column."""

THETA = 10_000.0

MOTION_1X_FRAMES = (-1,)
MOTION_2X_FRAMES = (-3,)
MOTION_4X_FRAMES = (-19, -14, -9, -4)
"""Temporal positions of the motion buckets; they never move."""


def axis_pairs(head_dim: int) -> tuple[int, int, int]:
    """How many channel pairs of a head turn with time, row and column."""
    third = head_dim // 2 // 3
    return head_dim // 2 - 2 * third, third, third


def axis_angles(head_dim: int) -> list[NDArray[np.float64]]:
    """Radians per position for the pairs of each axis (temporal, rows, columns)."""
    return [THETA ** (-np.arange(n, dtype=np.float64) / n) for n in axis_pairs(head_dim)]


def grid(frames: tuple[int, ...], token_grid: tuple[int, int], shrink: int = 1) -> Positions:
    """Positions of tokens in (frame, row, column) order.

    `shrink` 2 or 4 gives a coarser bucket: every axis of `token_grid` is spanned by that many times
    fewer tokens, end points included, positions cut to whole numbers.
    """
    rows, columns = (np.linspace(0, n - 1, n // shrink).astype(np.int64) for n in token_grid)
    axes = np.meshgrid(np.asarray(frames, np.int64), rows, columns, indexing="ij")
    return np.stack([axis.reshape(-1) for axis in axes], axis=1).astype(np.float64)


def sink_grid(config: PipelineConfig, reference_position: int) -> Positions:
    """Positions of the sink tokens in cache order: reference, motion 1x, motion 2x, motion 4x."""
    tokens = config.token_grid
    parts = [
        grid((reference_position,), tokens),
        grid(MOTION_1X_FRAMES, tokens),
        grid(MOTION_2X_FRAMES, tokens, 2),
        grid(MOTION_4X_FRAMES, tokens, 4),
    ]
    return np.concatenate(parts)


def tables(positions: Positions, head_dim: int, to_half: bool = False) -> tuple[FloatTable, ...]:
    """cos and sin of every token, each [tokens, head_dim / 2]; `to_half` rounds to float16."""
    angles = np.concatenate(
        [positions[:, i : i + 1] * angle for i, angle in enumerate(axis_angles(head_dim))], axis=1
    )
    return _stored(np.cos(angles), to_half), _stored(np.sin(angles), to_half)


def _stored(table: NDArray[np.float64], to_half: bool) -> FloatTable:
    if to_half:
        return table.astype(np.float16).astype(np.float32)
    return table.astype(np.float32)


class RopeTables:
    """cos and sin of all cache slots, kept up to date in place: [sink | ring of blocks].

    `cos_k`, `sin_k` [1, K, d/2] are persistent buffers that may be bound to an engine's inputs
    once. Rows and columns of a token never change; a call rewrites the temporal pairs of one frame
    or one block. Positions may be as large as float64 counts them.
    """

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config
        self._to_half = config.round_rope_to_half
        self._angles = axis_angles(config.head_dim)[0]
        block = grid(tuple(range(config.frames_per_block)), config.token_grid)
        slots = [sink_grid(config, config.sink_position), *[block] * config.window_blocks]
        cos, sin = tables(np.concatenate(slots), config.head_dim, self._to_half)
        self.cos_k, self.sin_k = cos[None], sin[None]
        first = config.num_sink_tokens
        last = first + config.tokens_per_block
        self._cos_q = self.cos_k[:, first:last].copy()
        self._sin_q = self.sin_k[:, first:last].copy()

    def reset(self) -> None:
        """Back to the tables of a new stream: reference at its rest, ring at block 0."""
        self.place_reference(self._config.sink_position)
        for slot in range(self._config.window_blocks):
            self.write_block(slot, 0)

    def place_reference(self, position: int) -> None:
        """Put the reference frame at a temporal position (latent frames)."""
        self._write(self.cos_k, self.sin_k, 0, (position,))

    def write_block(self, slot: int, first_frame: int) -> None:
        """Say that ring slot `slot` holds the block whose first latent frame is `first_frame`."""
        config = self._config
        if not 0 <= slot < config.window_blocks:
            raise ValueError(f"ring slot is {slot}, wanted 0..{config.window_blocks - 1}")
        start = config.num_sink_tokens + slot * config.tokens_per_block
        self._write(self.cos_k, self.sin_k, start, self._frames(first_frame))

    def block_tables(self, first_frame: int) -> tuple[FloatTable, FloatTable]:
        """cos_q, sin_q [1, Q, d/2] of the block at `first_frame`; the next call rewrites them."""
        self._write(self._cos_q, self._sin_q, 0, self._frames(first_frame))
        return self._cos_q, self._sin_q

    def sink_tables(self) -> tuple[FloatTable, FloatTable]:
        """cos_sink, sin_sink [1, num_sink_tokens, d/2] for prefill, the reference at its rest."""
        config = self._config
        positions = sink_grid(config, config.sink_position)
        cos, sin = tables(positions, config.head_dim, self._to_half)
        return cos[None], sin[None]

    def _frames(self, first_frame: int) -> tuple[int, ...]:
        return tuple(range(first_frame, first_frame + self._config.frames_per_block))

    def _write(self, cos: FloatTable, sin: FloatTable, start: int, frames: tuple[int, ...]) -> None:
        """Turn the temporal pairs of the tokens of `frames`, which begin at row `start`."""
        tokens, pairs = self._config.tokens_per_frame, len(self._angles)
        angles = np.asarray(frames, np.float64)[:, None] * self._angles
        for table, values in ((cos, np.cos(angles)), (sin, np.sin(angles))):
            rows = table[0, start : start + len(frames) * tokens, :pairs]
            rows.reshape(len(frames), tokens, pairs)[:] = _stored(values, self._to_half)[:, None]
