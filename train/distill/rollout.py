"""The student on its own history, all blocks of a clip at once.

Timestep forcing lets a roll-out run level by level instead of block by block: at a step, a block
attends to earlier blocks' inputs of that same step, and all of these are known once the step before
has run over the whole clip. `train.network.stream` gives the same latents, one block at a time.

History corruption (Live Avatar, arXiv 2512.04677; docs/method.md section 9) is noise on the cached
K and V of earlier blocks, in training alone: the student must not trust its own history too much.

B clips   n blocks of a clip   F latent frames of a block   C channels   h, w latent size
N heads   L = n * F * S tokens of a clip   d head size
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from networks.dit import DiT
from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.schedule import Schedule
from train.network import batched_dit
from train.network.attention import WindowAttention
from train.network.batched_dit import Conditions, KeysValues


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a block attends to beside itself; the ablations of serving and training."""

    config: PipelineConfig
    """Levels, window and sink of the stream."""
    sink: bool = True
    """False: reference and motion are not seen."""
    corruption: float = 0.0
    """Largest standard deviation of the noise on history, in units of K's and V's own."""

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.config.num_steps, self.config.shift)


Later = tuple[int, list[KeysValues]] | None
"""A block of the clip, and the sink that is seen from there on."""


class History(WindowAttention):
    """Attention to earlier blocks as to a cache: constant, noisy, and with a sink that may change.

    `spread` [B, n]: standard deviation of the noise on each block as history.
    """

    def __init__(
        self,
        around: Surroundings,
        sink: list[KeysValues] | None,
        starts: Sequence[int],
        num_blocks: int,
        spread: Tensor,
        generator: torch.Generator,
        later: Later = None,
    ) -> None:
        distance = batched_dit.sink_distance_of(around.config, None)
        super().__init__(around.config, sink, starts, num_blocks, distance, spread.device)
        self.spread, self.generator, self.later = spread, generator, later
        self.corrupts = around.corruption > 0

    def with_sink(self, layer: int, block: int, seen: list[KeysValues]) -> list[KeysValues]:
        sink = self.later[1] if self.later and block >= self.later[0] else self.sink
        return seen if sink is None else [*seen, self.turned(sink, layer, block)]

    def past(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        kept = [block.detach() for block in super().past(blocks)]
        if not self.corrupts:
            return kept
        each = zip(kept, self.spread.unbind(1), strict=False)
        return [corrupted(block, spread, self.generator) for block, spread in each]


def corrupted(kept: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
    """K or V [B, N, L, d] of a block with noise of `spread` [B] times its own deviation."""
    noise = torch.randn(kept.shape, generator=generator, device=kept.device)
    return kept + noise * (spread * kept.std())[:, None, None, None]


class Rollout:
    """Clips of B streams by one network; all but the last step of each block is constant."""

    def __init__(
        self,
        dit: DiT,
        conditions: Conditions,
        starts: Sequence[int],
        around: Surroundings,
        generator: torch.Generator,
    ) -> None:
        """`generator` draws the corruption. Text and sink are constant too, as in `stream`."""
        self.dit, self.conditions, self.starts = dit, conditions, starts
        self.around, self.generator = around, generator
        schedule = around.schedule
        self.sigmas = schedule.sigmas.tolist()
        with torch.no_grad():
            self.text = batched_dit.text_keys_values(dit, conditions.text)
            self.sink = self._sink(conditions.reference) if around.sink else None

    def clean(self, noise: Tensor, exit_step: int, recalibrated_from: int | None = None) -> Tensor:
        """noise [B, C, n * F, h, w] -> the clean latents that step `exit_step` points to.

        From block `recalibrated_from` >= 1 on, the reference is the clip's own first frame; None:
        it stays.
        """
        config = self.around.config
        num_blocks = noise.shape[2] // config.frames_per_block
        later = None
        if recalibrated_from is not None and recalibrated_from < num_blocks and self.around.sink:
            with torch.no_grad():  # the first block depends on no other: it runs ahead, alone
                first = self._levels(noise[:, :, : config.frames_per_block], exit_step)
                later = (recalibrated_from, self._sink(first[:, :, :1]))
        return self._levels(noise, exit_step, later)

    def _levels(self, latents: Tensor, exit_step: int, later: Later = None) -> Tensor:
        num_blocks = latents.shape[2] // self.around.config.frames_per_block
        size = (len(latents), num_blocks)
        spread = torch.rand(size, generator=self.generator, device=latents.device)
        spread = spread * self.around.corruption
        of = (self.around, self.sink, self.starts, num_blocks, spread, self.generator)
        attention = History(*of, later)
        for step in range(exit_step + 1):
            last = step == exit_step
            with torch.set_grad_enabled(last and torch.is_grad_enabled()):
                velocity = self._velocity(latents, step, attention)
                reached = 0.0 if last else self.sigmas[step + 1]
                latents = latents + (reached - self.sigmas[step]) * velocity
        return latents

    def _velocity(self, latents: Tensor, step: int, attention: History) -> Tensor:
        timestep = torch.from_numpy(self.around.schedule.timesteps[step : step + 1])
        modulation, head = self.dit.modulations(timestep.to(latents.device))
        video_frames = latents.shape[2] * self.around.config.temporal_stride
        audio = self.conditions.audio[..., :video_frames]
        tokens = batched_dit.embed(self.dit, latents)
        x = batched_dit.run_blocks(self.dit, tokens, modulation, attention, self.text, audio)
        return batched_dit.velocity_of(self.dit, x, head, latents.shape)

    def _sink(self, reference: Tensor) -> list[KeysValues]:
        clean, _ = self.dit.modulations(reference.new_zeros(1))
        motion, config = self.conditions.motion, self.around.config
        return batched_dit.sink_keys_values(self.dit, reference, motion, self.text, clean, config)
