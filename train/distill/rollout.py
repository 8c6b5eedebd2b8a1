"""The student on its own history.

Timestep forcing lets a roll-out run level by level instead of block by block (`rollout`): at a
step, a block attends to earlier blocks' inputs of that same step, and all of these are known once
the step before has run over the whole clip. `train.network.stream` gives the same latents.

In Rolling Forcing's joint window (`rolling_rollout`, arXiv 2509.25161) history is clean. Of the
windows of a clip every d-th learns, d the number of levels: so each block is predicted once with a
gradient, at the level it has in that window (docs/method.md section 9). Windows between them, and
the clean passes that fill the cache, are constant. Unlike in the paper every roll-out rolls, and
steps are Euler's, without fresh noise.

History corruption (Live Avatar, arXiv 2512.04677; docs/method.md section 9) is noise on the cached
K and V of earlier blocks, in training alone: the student must not trust its own history too much.

B clips   n blocks of a clip   F latent frames of a block   C channels   h, w latent size
N heads   L = n * F * S tokens of a clip   d head size
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from networks.dit import DiT
from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.schedule import Schedule, clean_of
from pipeline.rolling.plan import Pass
from train.network import batched_dit
from train.network.batched_dit import Conditions, KeysValues
from train.network.parallel import WindowAttention
from train.network.stream import CleanHistory, given_noise
from train.network.stream_network import RolloutOptions, StreamNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a block attends to beside itself; the ablations of serving and training."""

    config: PipelineConfig  # levels, window and sink of the stream
    sink: bool = True  # False: reference and motion are not seen
    corruption: float = 0.0  # largest deviation of the noise on history, in K's and V's own

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.config.num_steps, self.config.shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Conditions of B clips and the number of each one's first block in its stream."""

    conditions: Conditions
    starts: tuple[int, ...]

    @property
    def silent(self) -> Self:
        """The same without sound, as guidance needs it."""
        audio = torch.zeros_like(self.conditions.audio)
        return replace(self, conditions=replace(self.conditions, audio=audio))

    def rows(self, chosen: Sequence[int]) -> Self:
        some = self.conditions.rows(torch.tensor(chosen))
        return replace(self, conditions=some, starts=tuple(self.starts[i] for i in chosen))


class History(WindowAttention):
    """Attention to earlier blocks as to a cache: constant, and noisy. `spread` [B, n]: standard
    deviation of the noise on each block as history."""

    def __init__(
        self,
        around: Surroundings,
        sinks: Sequence[list[KeysValues] | None],
        starts: Sequence[int],
        spread: Tensor,
        generator: torch.Generator,
    ) -> None:
        super().__init__(around.config, sinks, starts, spread.device)
        self.spread, self.generator, self.corrupts = spread, generator, around.corruption > 0

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


def rollout(
    dit: DiT,
    scene: Scene,
    around: Surroundings,
    generator: torch.Generator,
    noise: Tensor,
    exit_step: int,
    recalibrated_from: int | None = None,
) -> Tensor:
    """noise [B, C, n * F, h, w] -> the clean latents that step `exit_step` points to. From block
    `recalibrated_from` >= 1 on, the reference is the clip's own first frame; None: it stays.
    `generator` draws the corruption. All but the last step of each block is constant, text and sink
    too, as in `stream`."""
    config, schedule, conditions = around.config, around.schedule, scene.conditions
    timesteps = torch.from_numpy(schedule.timesteps).to(noise.device)
    sigmas = [*schedule.sigmas[: exit_step + 1].tolist(), 0.0]
    with torch.no_grad():
        text = batched_dit.text_keys_values(dit, conditions.text)

    @torch.no_grad()
    def sink_of(reference: Tensor) -> list[KeysValues]:
        return batched_dit.sink_keys_values(dit, reference, conditions.motion, text, config)

    def denoised(latents: Tensor, sinks: Sequence[list[KeysValues] | None]) -> Tensor:
        size = (len(latents), len(sinks))
        spread = torch.rand(size, generator=generator, device=latents.device) * around.corruption
        attention = History(around, sinks, scene.starts, spread, generator)
        audio = conditions.audio[..., : latents.shape[2] * config.temporal_stride]
        for step in range(exit_step + 1):
            with torch.set_grad_enabled(step == exit_step and torch.is_grad_enabled()):
                modulations = dit.modulations(timesteps[step : step + 1])
                velocity = batched_dit.velocity(dit, latents, modulations, attention, text, audio)
                latents = latents + (sigmas[step + 1] - sigmas[step]) * velocity
        return latents

    sinks = [sink_of(conditions.reference) if around.sink else None]
    sinks *= noise.shape[2] // config.frames_per_block
    if around.sink and recalibrated_from is not None and recalibrated_from < len(sinks):
        with torch.no_grad():  # the first block depends on no other: it runs ahead, alone
            first = denoised(noise[:, :, : config.frames_per_block], sinks[:1])
        later = len(sinks) - recalibrated_from
        sinks[recalibrated_from:] = [sink_of(first[:, :, :1])] * later
    return denoised(noise, sinks)


def rolling_rollout(
    dit: DiT,
    scene: Scene,
    around: Surroundings,
    generator: torch.Generator,
    noise: Tensor,
    offset: int,
    *,
    recalibrate: bool = True,
) -> Tensor:
    """noise [B, C, n * F, h, w] -> clean latents, block b's predicted at level (offset - b) % d.
    `offset` in 0..d-1 chooses the windows, `generator` draws the corruption of what is cached."""
    window = {"schedule": "rolling", "history": "clean", "num_steps": around.config.num_steps}
    options = RolloutOptions(**window, sink=around.sink, recalibrate=recalibrate)
    network = StreamNetwork(dit, scene.conditions, options, around.config, scene.starts)
    windows = Windows(network, noise, offset, around.corruption, generator)
    num_blocks = noise.shape[2] // around.config.frames_per_block
    for _ in windows.blocks(num_blocks):
        if len(windows.made) == num_blocks:
            break
    return torch.cat(windows.made, 2)


class Windows(CleanHistory):
    """Every d-th window learns; what it predicts is kept in `made`."""

    def __init__(
        self,
        network: StreamNetwork,
        noise: Tensor,
        offset: int,
        corruption: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__(network, given_noise(noise, network.config.frames_per_block))
        self.corruption, self.generator = corruption, generator
        self.offset, self.learns = offset, False
        self.made: list[Tensor] = []

    def differentiates(self, _: Sequence[int]) -> torch.set_grad_enabled:
        return torch.set_grad_enabled(self.learns and torch.is_grad_enabled())

    def advance(self, block: int, level: int, latent: Tensor, velocity: Tensor) -> Tensor:
        if self.learns:
            self.made.append(clean_of(latent, velocity, self.sigmas[level]))
        return super().advance(block, level, latent, velocity)

    def _denoise(self, each: Pass) -> None:
        assert each.levels is not None
        tick = each.blocks.start + each.levels[0]
        self.learns = tick % self.num_levels == self.offset
        super()._denoise(each)

    def _store(self, each: Pass) -> None:
        super()._store(each)
        if not self.corruption:
            return
        (block,) = each.blocks
        generator, audio = self.generator, self.network.audio
        spread = self.corruption * torch.rand(len(audio), generator=generator, device=audio.device)
        self.cache[block] = [
            (corrupted(k, spread, generator), corrupted(v, spread, generator))
            for k, v in self.cache[block]
        ]
