"""Streams generated block by block in torch: for evaluation and ablations, many at once.

- `history="own level"` is what the server does: every step has a KV cache of its own inputs.
- `"clean"`: all steps read K and V of finished blocks, which pass through the network once more at
  timestep 0. Blocks pass their levels one after the other (Self-Forcing, arXiv 2506.08009), or with
  `schedule="rolling"` several at a time in a joint window (Rolling Forcing, arXiv 2509.25161).

B streams   n blocks   F latent frames of a block   C channels   h, w latent size
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial

import numpy as np
import torch
from torch import Tensor

from networks.dit import DiT
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from pipeline.config.sizes import StreamConfig
from pipeline.denoising.noise import block_noise
from pipeline.denoising.schedule import Schedule, advance
from pipeline.rolling.plan import Pass, RollingPlan
from train.network.batched_dit import Conditions, KeysValues
from train.network.stream_network import RolloutOptions, StreamNetwork
from train.preset import PRESET

Noise = Callable[[int, int], Tensor]  # block, level -> the noise [B, C, F, h, w] that enters there


def stream(
    dit: DiT,
    conditions: Conditions,
    options: RolloutOptions | None = None,
    noise: Tensor | Sequence[int] | None = None,
    *,
    config: PipelineConfig = PRESET.pipeline,
) -> Iterator[Tensor]:
    """Latents [B, C, F, h, w] of one block after another, as many as `conditions.audio` covers.
    `noise` [B, C, n * F, h, w], or a seed per stream for the served noise; None: seeds 0, 1, ….
    Where the caller has gradients on, a block's result has one through its last step alone: caches,
    sink, text and the steps before are constants. Memory does not grow with the stream."""
    options = options or RolloutOptions()
    batch, *_, length = conditions.audio.shape
    if isinstance(noise, Tensor):
        if options.sampler == "renoise":
            raise ValueError("noise is a tensor, wanted seeds: 'renoise' draws at every level")
        drawn = given_noise(noise, config.frames_per_block)
    else:
        seeds = range(batch) if noise is None else noise
        if len(seeds) != batch:
            raise ValueError(f"noise is {len(seeds)} seeds, wanted one for each of {batch} streams")
        drawn = partial(_seeded, seeds, config.latent_shape, conditions.audio.device)
    make = _OwnLevel if options.history == "own level" else CleanHistory
    streams = make(StreamNetwork(dit, conditions, options, config), drawn)
    return streams.blocks(length // config.video_frames_per_block)


def given_noise(noise: Tensor, frames: int) -> Noise:
    """That of successive blocks of `frames` latent frames, none after the first level."""

    def draw(block: int, level: int) -> Tensor:
        assert level == 0
        return noise[:, :, block * frames : (block + 1) * frames]

    return draw


def _seeded(
    seeds: Sequence[int], shape: tuple[int, ...], device: torch.device, block: int, level: int
) -> Tensor:
    rows = [block_noise(seed, block, shape, level) for seed in seeds]
    return torch.from_numpy(np.concatenate(rows)).to(device)


class _Levels:
    """What both kinds of streams share: a network, and the noise levels a block passes."""

    def __init__(self, network: StreamNetwork, noise: Noise) -> None:
        self.network, self.noise = network, noise
        options, config = network.options, network.config
        schedule = Schedule(options.num_steps, config.shift)
        self.num_levels = options.num_levels
        self.sigmas = schedule.sigmas[: self.num_levels].tolist()
        self.timesteps = torch.from_numpy(schedule.timesteps).to(network.audio.device)
        self.window_blocks = options.window_blocks or config.window_blocks

    def advance(self, block: int, level: int, latent: Tensor, velocity: Tensor) -> Tensor:
        renoises = self.network.options.sampler == "renoise"
        noise = partial(self.noise, block)
        return advance(self.sigmas, level, latent, velocity, noise, renoises=renoises)

    def differentiates(self, levels: Sequence[int]) -> torch.set_grad_enabled:
        """Gradients, if they are on, for the last level alone."""
        return torch.set_grad_enabled(self.num_levels - 1 in levels and torch.is_grad_enabled())


class _OwnLevel(_Levels):
    """A ring of earlier blocks for every level."""

    def blocks(self, num_blocks: int) -> Iterator[Tensor]:
        rings: list[deque[list[KeysValues]]] = [
            deque(maxlen=self.window_blocks - 1) for _ in range(self.num_levels)
        ]
        for block in range(num_blocks):
            latent = self.noise(block, 0)
            for level, ring in enumerate(rings):
                with self.differentiates([level]):
                    velocity, own = self.network.velocity(
                        range(block, block + 1), latent, self.timesteps[level : level + 1], ring
                    )
                    latent = self.advance(block, level, latent, velocity)
                ring.append(own)
            self.network.finished(block, latent)
            yield latent


class CleanHistory(_Levels):
    """One cache of clean blocks, and the window of blocks in flight; for one stream."""

    def __init__(self, network: StreamNetwork, noise: Noise) -> None:
        super().__init__(network, noise)
        self.plan = RollingPlan(plan_rules(network.config, network.options))
        self.cache: dict[int, list[KeysValues]] = {}
        self.in_flight: dict[int, Tensor] = {}
        """And the block that was finished last."""

    def blocks(self, num_blocks: int) -> Iterator[Tensor]:
        for number in range(self.plan.num_ticks(num_blocks)):
            tick = self.plan.tick(number, num_blocks)
            if tick.store is not None:
                self._store(tick.store)
            for each in tick.denoise:
                self._denoise(each)
            if tick.finished is not None:
                latent = self.in_flight[tick.finished]
                self.network.finished(tick.finished, latent)
                yield latent

    @torch.no_grad()
    def _store(self, each: Pass) -> None:
        (block,) = each.blocks
        clean = self.in_flight.pop(block)
        _, self.cache[block] = self.network.velocity(
            each.blocks, clean, clean.new_zeros(1), self._past(each)
        )
        self.cache.pop(block - self.plan.config.ring_blocks, None)

    def _denoise(self, each: Pass) -> None:
        assert each.levels is not None
        for block in each.blocks:
            if block not in self.in_flight:
                self.in_flight[block] = self.noise(block, 0)
        noisy = [self.in_flight[block] for block in each.blocks]
        with self.differentiates(each.levels):
            velocity, _ = self.network.velocity(
                each.blocks, torch.cat(noisy, 2), self.timesteps[list(each.levels)],
                self._past(each),
            )  # fmt: skip
            each_own = velocity.split(self.network.config.frames_per_block, 2)
            for block, level, latent, own in zip(
                each.blocks, each.levels, noisy, each_own, strict=True
            ):
                latent = self.advance(block, level, latent, own)
                ends = level == self.num_levels - 1
                self.in_flight[block] = latent if ends else latent.detach()

    def _past(self, each: Pass) -> list[list[KeysValues]]:
        return [self.cache[key.block] for key in each.history]


def plan_rules(config: PipelineConfig, options: RolloutOptions) -> RollingConfig:
    """The avatar's numbers as `RollingPlan` wants them: positions are true ones, and the sink,
    which is no block of the stream, is not among them. A pass spans the blocks that are seen before
    its first, and the window. Later passes of a stream that ends, and clean passes, span as many:
    they see further back."""
    rolling = options.schedule == "rolling"
    window = options.num_levels if rolling else 1
    before = (options.window_blocks or config.window_blocks) - 1
    return RollingConfig(
        **{f.name: getattr(config, f.name) for f in fields(StreamConfig)},
        frames_per_block=config.frames_per_block,
        # Only counted: the levels are those of `Schedule`, which the grid of 1000 does not hold.
        denoising_steps=tuple(range(options.num_levels, 0, -1)),
        schedule="diagonal" if rolling else "sequential",
        span_frames=(before + window) * config.frames_per_block,
        sink_frames=0,
        sink_position="true",
    )
