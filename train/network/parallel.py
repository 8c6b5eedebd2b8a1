"""A whole clip in one pass: many blocks of many clips at once, at one noise level per clip.

Timestep forcing makes this exact. A step's KV cache holds K and V of earlier blocks' inputs at that
step's own noise level; so a clip of n blocks that share one timestep, each attending to the sink,
the blocks before it and itself, computes what that timestep's stage computes block by block
(spec/live_avatar 7).

B clips   n blocks of a clip   F latent frames of a block   Q tokens of a block   L = n * Q
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from networks.dit import DiT
from pipeline.avatar.sink_cache import SinkCache
from pipeline.config.avatar import PipelineConfig
from train.network.batched_dit import (
    Conditions,
    KeysValues,
    embed,
    frame_rotation,
    rotate,
    run_blocks,
    sink_distance_of,
    sink_keys_values,
    sink_rotation,
    text_keys_values,
    velocity_of,
)
from train.network.quick_layers import attend
from train.preset import PRESET


def velocities(
    dit: DiT,
    latents: Tensor,
    timesteps: Tensor,
    conditions: Conditions,
    *,
    starts: Sequence[int],
    sink_distance: int | None = None,
    sink: bool = True,
    config: PipelineConfig = PRESET.pipeline,
) -> Tensor:
    """Velocity of `latents` [B, C, n * F, h, w] at one timestep per clip, [B].

    Clip b holds the blocks starts[b], starts[b] + 1, … of its stream; blocks before them are not
    seen, so a clip from the middle of a stream begins without history. `sink_distance`: latent
    frames, None for the preset's. Without `sink`, reference and motion are not seen.
    """
    modulation, head = dit.modulations(torch.cat([timesteps, timesteps.new_zeros(1)]))
    text = text_keys_values(dit, conditions.text)
    kept = None
    if sink:
        reference, motion = conditions.reference, conditions.motion
        kept = sink_keys_values(dit, reference, motion, text, modulation[-1:], config)
    num_blocks = latents.shape[2] // config.frames_per_block
    distance = sink_distance_of(config, sink_distance)
    attention = WindowAttention(config, kept, starts, num_blocks, distance, latents.device)
    x = run_blocks(dit, embed(dit, latents), modulation[:-1], attention, text, conditions.audio)
    return velocity_of(dit, x, head[:-1], latents.shape)


class WindowAttention:
    """Every block of a clip attends to the sink, the blocks of its window before it, and itself."""

    def __init__(
        self,
        config: PipelineConfig,
        sink: list[KeysValues] | None,
        starts: Sequence[int],
        num_blocks: int,
        sink_distance: int,
        device: torch.device,
    ) -> None:
        self.window, self.num_blocks, self.sink = config.window_blocks, num_blocks, sink
        frames, plan = config.frames_per_block, SinkCache(config).plan
        spans = np.add.outer(np.multiply(starts, frames), np.arange(num_blocks * frames))
        self.turns = frame_rotation(config, spans, device)[:, None]
        places = [
            [plan(s + j, sink_distance).reference_position for s in starts]
            for j in range(num_blocks)
        ]
        self.sink_turns = sink_rotation(config, places, device)[:, :, None]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v [B, N, L, d] before RoPE -> [B, N, L, d]."""
        queries = rotate(q, self.turns).chunk(self.num_blocks, 2)
        keys, values = (x.chunk(self.num_blocks, 2) for x in (rotate(k, self.turns), v))
        attended = []
        for j, query in enumerate(queries):
            seen = slice(max(0, j - self.window + 1), j + 1)
            seen_k, seen_v = keys[seen], values[seen]
            if self.sink is not None:
                sink_k, sink_v = self.sink[layer]
                seen_k = (rotate(sink_k, self.sink_turns[j]), *seen_k)
                seen_v = (sink_v, *seen_v)
            attended.append(attend(query, torch.cat(seen_k, 2), torch.cat(seen_v, 2)))
        return torch.cat(attended, 2)
