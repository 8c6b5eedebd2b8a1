"""Rotary position tables of the avatar's query block and cache (docs/method.md section 2).

Keys are cached before rotation. So a token is moved in time by writing other numbers here, and
nothing in the cache changes.

K tokens of the cache, F frames of a block, S tokens of a latent frame, d channels of a head.
"""

import numpy as np

from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.positions import FloatTable, Positions, axis_angles, grid, rounded, tables

MOTION_1X_FRAMES = (-1,)
MOTION_2X_FRAMES = (-3,)
MOTION_4X_FRAMES = (-19, -14, -9, -4)
"""Temporal positions of the motion buckets; they never move."""


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


class RopeTables:
    """cos and sin of all cache slots, kept up to date in place: [sink | ring of blocks].

    `cos_k`, `sin_k` are [1, K, d/2]. Rows and columns of a token never change; a call rewrites the
    temporal pairs of one frame or one block. Positions may be as large as float64 counts them.
    """

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config
        self._to_half = config.round_rope_to_half
        self._angles = axis_angles(config.head_dim)[0]
        self._first_frames = [0] * config.window_blocks  # of the block in each slot
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
        if self._first_frames[slot] == first_frame:
            return
        self._first_frames[slot] = first_frame
        start = config.num_sink_tokens + slot * config.tokens_per_block
        self._write(self.cos_k, self.sin_k, start, self._frames(first_frame))

    def block_tables(self, first_frame: int) -> tuple[FloatTable, FloatTable]:
        """cos_q, sin_q [F, S, d/2] of the block at `first_frame`; the next call rewrites them."""
        self._write(self._cos_q, self._sin_q, 0, self._frames(first_frame))
        shape = self._config.frames_per_block, self._config.tokens_per_frame, -1
        return self._cos_q.reshape(shape), self._sin_q.reshape(shape)

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
            rows.reshape(len(frames), tokens, pairs)[:] = rounded(values, self._to_half)[:, None]
