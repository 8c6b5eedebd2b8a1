"""The avatar's DiT on successive blocks of B streams, with all that stays the same between them.

Blocks that are given together see each other, whatever their noise levels; each has its own
timestep, its own sound, and the sink's reference rolled ahead of itself as in serving.

B streams   n blocks   F latent frames of a block   C channels   h, w latent size
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from networks.dit import DiT
from pipeline.avatar.sink_cache import SinkCache
from pipeline.config.avatar import PipelineConfig
from train.network import batched_dit
from train.network.batched_dit import Conditions, KeysValues
from train.network.quick_layers import attend

CHOICES = {
    "schedule": ("sequential", "rolling"),
    "history": ("own level", "clean"),
    "sampler": ("euler", "renoise"),
}


def check(options: Any, choices: Mapping[str, tuple[str, ...]], *counts: str) -> None:
    """ValueError if a field has a value that is none of its choices, or a count is below 1."""
    for name, wanted in choices.items():
        if getattr(options, name) not in wanted:
            raise ValueError(f"{name} is {getattr(options, name)!r}, wanted one of {wanted}")
    for name in counts:
        if (given := getattr(options, name)) is not None and given < 1:
            raise ValueError(f"{name} is {given}, wanted 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutOptions:
    """The defaults are the served pipeline's."""

    num_steps: int = 4
    schedule: Literal["sequential", "rolling"] = "sequential"
    """`rolling`: a window of as many blocks as there are steps, each at another noise level, is
    denoised jointly (Rolling Forcing, arXiv 2509.25161)."""
    history: Literal["own level", "clean"] = "own level"
    """What blocks see of those before: K and V at their own noise level, or of a clean pass."""
    sampler: Literal["euler", "renoise"] = "euler"  # `renoise`: to the clean latent, fresh noise
    sink: bool = True  # False: reference and motion are not seen
    sink_blocks: int | None = None  # so many blocks see it, then it is forgotten; None: all
    recalibrate: bool = True
    """From the pipeline's `recalibrate_block` on, the reference is the first generated frame."""
    sink_distance: int | None = None  # latent frames; None: the preset's
    window_blocks: int | None = None
    """Blocks that are seen, the current one included, and of a rolling window its first; None: the
    preset's."""
    guidance: float = 1.0  # 1: as conditioned. Else: without sound, plus so often what sound adds
    exit_step: int | None = None
    """A block ends after this step with the clean latent it points to; None: after the last."""

    def __post_init__(self) -> None:
        check(self, CHOICES, "num_steps", "window_blocks", "sink_blocks")
        if self.schedule == "rolling" and self.history != "clean":
            raise ValueError(
                f"schedule is 'rolling' and history {self.history!r}, wanted 'clean': blocks of a "
                "window read one cache, written by a clean pass"
            )
        if self.exit_step is not None and not 0 <= self.exit_step < self.num_steps:
            raise ValueError(f"exit_step is {self.exit_step}, wanted 0..{self.num_steps - 1}")

    @property
    def num_levels(self) -> int:
        return self.num_steps if self.exit_step is None else self.exit_step + 1


Sink = list[KeysValues]  # K, before RoPE, and V of reference and motion in every layer


class StreamNetwork:
    """Text, sink and sound of B streams are constant to autograd."""

    def __init__(
        self,
        dit: DiT,
        conditions: Conditions,
        options: RolloutOptions,
        config: PipelineConfig,
        starts: Sequence[int] = (0,),
    ) -> None:
        """`starts`: where in its stream each one's block 0 is said to be, or one for all; several
        only without guidance."""
        self.dit, self.options, self.config = dit, options, config
        self.audio = conditions.audio
        self.starts = np.asarray(starts)
        self.plan = SinkCache(config)
        self.distance = batched_dit.sink_distance_of(config, options.sink_distance)
        self.motion = self._branches(conditions.motion)
        with torch.no_grad():
            self.text = batched_dit.text_keys_values(dit, self._branches(conditions.text))
        self.sink = self._sink(conditions.reference) if options.sink else None
        self.recalibrated: Sink | None = None

    def velocity(
        self, blocks: range, latents: Tensor, timesteps: Tensor, past: Sequence[list[KeysValues]]
    ) -> tuple[Tensor, list[KeysValues]]:
        """Velocity of `blocks` [B, C, n * F, h, w] at timesteps [n]; their K, after RoPE, and V.
        `past`: the same of each block before them that is seen."""
        c = self.config
        first = (self.starts + blocks.start) * c.frames_per_block
        frames = np.add.outer(first, np.arange(latents.shape[2]))
        turns = batched_dit.frame_rotation(c, frames, latents.device)[:, None]
        sinks = [self._seen_sink(block) for block in blocks]
        own: list[KeysValues] = []

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            k = batched_dit.rotate(k, turns)
            own.append((k.detach(), v.detach()))
            seen = [*(kept[layer] for kept in past), (k, v)]
            attended = []
            for query, sink in zip(
                batched_dit.rotate(q, turns).chunk(len(blocks), 2), sinks, strict=True
            ):
                both = seen
                if sink is not None:
                    (sink_k, sink_v), sink_turns = sink[0][layer], sink[1]
                    both = [*seen, (batched_dit.rotate(sink_k, sink_turns), sink_v)]
                keys, values = zip(*both, strict=True)
                attended.append(attend(query, torch.cat(keys, 2), torch.cat(values, 2)))
            return torch.cat(attended, 2)

        modulations = self.dit.modulations(timesteps)
        if len(blocks) > 1:
            modulations = tuple(batched_dit.by_token(m, c.tokens_per_block) for m in modulations)
        of = (self._branches(latents), modulations, attention, self.text, self._heard(blocks))
        return self._guided(batched_dit.velocity(self.dit, *of)), own

    def finished(self, block: int, latent: Tensor) -> None:
        """Look at a block that is done: the first one's first frame is a later reference."""
        if block == 0 and self.options.sink and self.options.recalibrate:
            self.recalibrated = self._sink(latent[:, :, :1])

    @torch.no_grad()
    def _sink(self, reference: Tensor) -> Sink:
        shown = (self._branches(reference), self.motion)
        return batched_dit.sink_keys_values(self.dit, *shown, self.text, self.config)

    def _seen_sink(self, block: int) -> tuple[Sink, Tensor] | None:
        """What a block sees of the sink, and its turns."""
        limit, sink = self.options.sink_blocks, self.sink
        if sink is None or (limit is not None and block >= limit):
            return None
        if block >= self.config.recalibrate_block and self.recalibrated is not None:
            sink = self.recalibrated
        places = (self.plan.plan(block + start, self.distance) for start in self.starts.tolist())
        positions = [place.reference_position for place in places]
        return sink, batched_dit.sink_rotation(self.config, positions, self.audio.device)[:, None]

    def _heard(self, blocks: range) -> Tensor:
        num_video = self.config.video_frames_per_block
        audio = self.audio[..., blocks.start * num_video : blocks.stop * num_video]
        return audio if self._unguided else torch.cat([audio, torch.zeros_like(audio)])

    def _guided(self, velocity: Tensor) -> Tensor:
        if self._unguided:
            return velocity
        spoken, silent = velocity.chunk(2)
        return silent + self.options.guidance * (spoken - silent)

    @property
    def _unguided(self) -> bool:
        return self.options.guidance == 1

    def _branches(self, x: Tensor) -> Tensor:
        """Twice the rows if there is guidance: with sound, then without."""
        return x if self._unguided else torch.cat([x, x])
