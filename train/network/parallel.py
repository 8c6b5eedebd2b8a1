"""A whole clip in one pass: many blocks of many clips at once, at one noise level per clip.

Timestep forcing makes this exact. A step's KV cache holds K and V of earlier blocks' inputs at that
step's own noise level; so n blocks that share one timestep, each attending to the sink, the blocks
before it and itself, are what that timestep's stage computes in turn (docs/method.md section 3).

B clips   n blocks of a clip   F latent frames of a block   N heads, of size d   L tokens
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from networks.dit import DiT
from pipeline.avatar.sink_cache import SinkCache
from pipeline.config.avatar import PipelineConfig
from train.network import batched_dit
from train.network.batched_dit import Conditions, KeysValues, rotate
from train.network.quick_layers import attend
from train.preset import PRESET


class WindowAttention:
    """Every block of a clip attends to the blocks of its window before it, itself, and its sink."""

    def __init__(
        self,
        config: PipelineConfig,
        sinks: Sequence[list[KeysValues] | None],
        starts: Sequence[int],
        device: torch.device,
        sink_distance: int | None = None,
    ) -> None:
        """`sinks`: that of each of the n blocks. `starts`, `sink_distance` as in `velocities`."""
        self.window, self.sinks, num_blocks = config.window_blocks, sinks, len(sinks)
        frames, plan = config.frames_per_block, SinkCache(config).plan
        spans = np.add.outer(np.multiply(starts, frames), np.arange(num_blocks * frames))
        self.turns = batched_dit.frame_rotation(config, spans, device)[:, None]
        distance = batched_dit.sink_distance_of(config, sink_distance)
        places = [
            [plan(s + j, distance).reference_position for s in starts] for j in range(num_blocks)
        ]
        self.sink_turns = batched_dit.sink_rotation(config, places, device)[:, :, None]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v [B, N, L, d] before RoPE -> [B, N, L, d]."""
        queries = rotate(q, self.turns).chunk(len(self.sinks), 2)
        keys, values = (x.chunk(len(self.sinks), 2) for x in (rotate(k, self.turns), v))
        history = list(zip(self.past(keys), self.past(values), strict=True))
        attended = []
        for j, (query, sink) in enumerate(zip(queries, self.sinks, strict=True)):
            seen = [*history[max(0, j - self.window + 1) : j], (keys[j], values[j])]
            if sink is not None:
                sink_k, sink_v = sink[layer]
                seen.append((rotate(sink_k, self.sink_turns[j]), sink_v))
            seen_k, seen_v = zip(*seen, strict=True)
            attended.append(attend(query, torch.cat(seen_k, 2), torch.cat(seen_v, 2)))
        return torch.cat(attended, 2)

    def past(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """K or V of blocks as later ones see them; the last one is nobody's history."""
        return list(blocks[:-1])


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
    """Velocity of `latents` [B, C, n * F, h, w] at one timestep per clip, [B]. Clip b holds the
    blocks starts[b], starts[b] + 1, … of its stream; blocks before them are not seen, so a clip
    from the middle of a stream begins without history. `sink_distance`: latent frames, None for the
    preset's. Without `sink`, reference and motion are not seen."""
    text, kept = batched_dit.text_keys_values(dit, conditions.text), None
    if sink:
        shown = (conditions.reference, conditions.motion)
        kept = batched_dit.sink_keys_values(dit, *shown, text, config)
    sinks = [kept] * (latents.shape[2] // config.frames_per_block)
    attention = WindowAttention(config, sinks, starts, latents.device, sink_distance)
    modulations = dit.modulations(timesteps)
    return batched_dit.velocity(dit, latents, modulations, attention, text, conditions.audio)
