"""Streams generated block by block in torch: for Self-Forcing, evaluation and ablations.

Many streams at once, on the parameters in training. With `history="own level"` this is what the
server does: every step has a KV cache of its own inputs. With `"clean"` every finished block passes
through the network once more at timestep 0, and all steps of later blocks read K and V of that
(Self-Forcing, arXiv 2506.08009).

B streams   n blocks   F latent frames of a block   C channels   h, w latent size   N heads
d head size
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from networks.dit import DiT
from pipeline.config import PipelineConfig
from pipeline.noise import block_noise
from pipeline.schedule import Schedule
from pipeline.sink_cache import SinkCache
from train.batched_dit import (
    Conditions,
    KeysValues,
    block_rotation,
    embed,
    rotate,
    run_blocks,
    sink_distance_of,
    sink_keys_values,
    sink_rotation,
    text_keys_values,
    velocity_of,
)
from train.preset import PRESET
from train.quick_layers import attend


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutOptions:
    """How streams are made; the defaults are the served pipeline's."""

    num_steps: int = 4
    history: Literal["own level", "clean"] = "own level"
    sink: bool = True
    """False: reference and motion are not seen."""
    sink_blocks: int | None = None
    """Only so many blocks see the sink, then it is forgotten like any block; None: all do."""
    recalibrate: bool = True
    """From the pipeline's `recalibrate_block` on, the reference is the first generated frame."""
    sink_distance: int | None = None
    """Latent frames; None: the preset's."""
    window_blocks: int | None = None
    """Blocks that are seen, the current one included; None: the preset's."""
    guidance: float = 1.0
    """1: as conditioned. Else the velocity without sound, plus `guidance` times what sound adds."""
    exit_step: int | None = None
    """A block ends after this step with the clean latent it points to; None: after the last."""

    def __post_init__(self) -> None:
        if self.history not in ("own level", "clean"):
            raise ValueError(f"history is {self.history!r}, wanted 'own level' or 'clean'")
        if self.window_blocks is not None and self.window_blocks < 1:
            raise ValueError(f"window_blocks is {self.window_blocks}, wanted 1 or more")
        if self.sink_blocks is not None and self.sink_blocks < 1:
            raise ValueError(f"sink_blocks is {self.sink_blocks}, wanted 1 or more")
        if self.exit_step is not None and not 0 <= self.exit_step < self.num_steps:
            raise ValueError(f"exit_step is {self.exit_step}, wanted 0..{self.num_steps - 1}")


def stream(
    dit: DiT,
    conditions: Conditions,
    options: RolloutOptions | None = None,
    noise: Tensor | int = 0,
    *,
    config: PipelineConfig = PRESET.pipeline,
) -> Iterator[Tensor]:
    """Latents [B, C, F, h, w] of one block after another, as many as `conditions.audio` covers.

    `noise` [B, C, n * F, h, w], or a seed: row b then starts from the served noise of seed + b.
    Where the caller has gradients on, a block's result has one through its last step alone: caches,
    sink, text and the steps before are constants. Memory does not grow with the stream.
    """
    streams = _Streams(dit, conditions, options or RolloutOptions(), config)
    batch, *_, length = conditions.audio.shape
    frames, num_video = config.frames_per_block, config.video_frames_per_block
    for block in range(length // num_video):
        if isinstance(noise, int):
            rows = [block_noise(noise + row, block, config.latent_shape) for row in range(batch)]
            drawn = torch.from_numpy(np.concatenate(rows))
        else:
            drawn = noise[:, :, block * frames : (block + 1) * frames]
        audio = conditions.audio[..., block * num_video : (block + 1) * num_video]
        yield streams.denoise(block, drawn, audio)


class _Streams:
    """The state of B streams, all of it constant to autograd."""

    def __init__(
        self, dit: DiT, conditions: Conditions, options: RolloutOptions, config: PipelineConfig
    ) -> None:
        window = options.window_blocks or config.window_blocks
        self.dit, self.options = dit, options
        self.config = replace(config, window_blocks=window)
        self.plan = SinkCache(self.config)
        self.distance = sink_distance_of(config, options.sink_distance)
        schedule = Schedule(options.num_steps, config.shift)
        self.sigmas = schedule.sigmas.tolist()
        # The last one is that of the clean pass.
        self.timesteps = torch.from_numpy(np.append(schedule.timesteps, np.float32(0)))
        num_rings = options.num_steps if options.history == "own level" else 1
        self.rings: list[deque[list[KeysValues]]] = [
            deque(maxlen=window - 1) for _ in range(num_rings)
        ]
        """Blocks that are seen besides the current one, k after RoPE and v of every layer."""
        self.motion = self._branches(conditions.motion)
        with torch.no_grad():
            self.text = text_keys_values(dit, self._branches(conditions.text))
        self.sink: list[KeysValues] | None = None
        if options.sink:
            self._fill_sink(conditions.reference)

    def denoise(self, block: int, latent: Tensor, audio: Tensor) -> Tensor:
        """Noise [B, C, F, h, w] and the block's audio -> its latent."""
        options, last = self.options, self.options.num_steps - 1
        if options.exit_step is not None:
            last = options.exit_step
        own_level = options.history == "own level"
        for step in range(last + 1):
            with torch.set_grad_enabled(step == last and torch.is_grad_enabled()):
                ring = self.rings[step if own_level else 0]
                velocity, own = self._velocity(block, latent, audio, step, ring)
                ends = step == last and options.exit_step is not None
                reached = 0.0 if ends else self.sigmas[step + 1]
                latent = latent + (reached - self.sigmas[step]) * velocity
            if own_level:
                ring.append(own)
        with torch.no_grad():
            if not own_level:
                _, own = self._velocity(block, latent, audio, -1, self.rings[0])
                self.rings[0].append(own)
            self._recalibrate(block, latent)
        return latent

    def _velocity(
        self,
        block: int,
        latent: Tensor,
        audio: Tensor,
        step: int,
        ring: deque[list[KeysValues]],
    ) -> tuple[Tensor, list[KeysValues]]:
        """The velocity, and what the block adds to the ring."""
        plan = self.plan.plan(block, self.distance)
        turns = block_rotation(self.config, plan.first_frame, self.config.frames_per_block)
        sink_turns = sink_rotation(self.config, plan.reference_position)
        own: list[KeysValues] = []

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            k = rotate(k, turns)
            own.append((k.detach(), v.detach()))
            seen = [*(past[layer] for past in ring), (k, v)]
            if self.sink is not None:
                sink_k, sink_v = self.sink[layer]
                seen.append((rotate(sink_k, sink_turns), sink_v))
            keys, values = zip(*seen, strict=True)
            return attend(rotate(q, turns), torch.cat(keys, 2), torch.cat(values, 2))

        guided = self.options.guidance != 1
        heard = torch.cat([audio, torch.zeros_like(audio)]) if guided else audio
        modulation, head = self.dit.modulations(self.timesteps[step : step + 1 or None])
        x = embed(self.dit, self._branches(latent))
        x = run_blocks(self.dit, x, modulation, attention, self.text, heard)
        velocity = velocity_of(self.dit, x, head, self._branches(latent).shape)
        if guided:
            spoken, silent = velocity.chunk(2)
            velocity = silent + self.options.guidance * (spoken - silent)
        return velocity, own

    def _branches(self, x: Tensor) -> Tensor:
        """Twice the rows if there is guidance: with sound, then without."""
        return x if self.options.guidance == 1 else torch.cat([x, x])

    @torch.no_grad()
    def _fill_sink(self, reference: Tensor) -> None:
        clean, _ = self.dit.modulations(torch.zeros(1))
        reference = self._branches(reference)
        self.sink = sink_keys_values(
            self.dit, reference, self.motion, self.text, clean, self.config
        )

    def _recalibrate(self, block: int, latent: Tensor) -> None:
        """After a block: note the first frame, or take it for the reference of the next block."""
        if block + 1 == self.options.sink_blocks:
            self.sink = None
        if block == 0:
            self.first_frame = latent[:, :, :1]
        due = self.sink is not None and self.options.recalibrate
        if due and self.plan.recalibrates(block + 1):
            self._fill_sink(self.first_frame)
