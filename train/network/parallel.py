"""A whole clip in one pass: many blocks of many clips at once, at one noise level per clip.

Timestep forcing makes this exact. A step's KV cache holds K and V of earlier blocks' inputs at that
step's own noise level; so a clip of n blocks that share one timestep, each attending to the sink,
the blocks before it and itself, computes what that timestep's stage computes block by block
(docs/method.md section 3).

B clips   n blocks of a clip   F latent frames of a block   Q tokens of a block   L = n * Q
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from networks.dit import DiT
from pipeline.config.avatar import PipelineConfig
from train.network import batched_dit
from train.network.attention import WindowAttention
from train.network.batched_dit import Conditions
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
    text = batched_dit.text_keys_values(dit, conditions.text)
    kept = None
    if sink:
        reference, motion = conditions.reference, conditions.motion
        kept = batched_dit.sink_keys_values(dit, reference, motion, text, modulation[-1:], config)
    num_blocks = latents.shape[2] // config.frames_per_block
    distance = batched_dit.sink_distance_of(config, sink_distance)
    attention = WindowAttention(config, kept, starts, num_blocks, distance, latents.device)
    x = batched_dit.run_blocks(
        dit, batched_dit.embed(dit, latents), modulation[:-1], attention, text, conditions.audio
    )
    return batched_dit.velocity_of(dit, x, head[:-1], latents.shape)
