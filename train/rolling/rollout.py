"""Roll-outs of a text-to-video generator on its own history, with gradients.

Both kinds return one clean prediction per block from which gradients reach the weights through one
network call; whatever a later block reads of an earlier one is constant.

- Self-Forcing: every block stops at the same random level (arXiv 2506.08009)
- Rolling Forcing: of the windows of the served diagonal every d-th is differentiated, so that each
  block is predicted once, at the level it has in that window (arXiv 2509.25161)

The releases overwrite cached K/V under autograd's feet, which leads gradients of later blocks into
noisy passes of earlier ones (`grad_official` in the fixtures); that is not reproduced.

B batch   C channels   F latent frames of a block   N blocks   h, w latent size   d levels
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from networks.block import Sight
from networks.causal_wan import CausalWan
from networks.transformer import KeysValues
from pipeline.config.rolling import RollingConfig
from pipeline.denoising.schedule import Levels, NoiseTable
from pipeline.rolling.plan import Pass, RollingPlan
from train.network.flow import add_noise, clean_from

Draw = Callable[[int, int], Tensor]
"""Block and number of the draw -> Gaussian noise [B, C, F, h, w]."""
GRADIENT_BLOCKS = 7
"""Blocks at the end of a roll-out that are supervised: 21 frames, what score networks take."""


class Generator(Protocol):
    """A network with a cache of clean K/V of finished blocks, written when told to."""

    def velocity(self, plan: Pass, latents: Tensor, timesteps: Tensor) -> Tensor:
        """latents [B, C, frames, h, w], timesteps [B, frames] -> velocity; nothing is cached."""

    def store(self, plan: Pass, clean: Tensor, timestep: float) -> None:
        """Cache K/V of `plan.blocks` under this timestep, without gradients."""


class CachedWan:
    """`CausalWan` on prompts [B, text_len, text_dim], its cache a K and V per block and layer.

    As what is cached is constant, gradients stop there.
    """

    def __init__(self, wan: CausalWan, text: Tensor, frames_per_block: int) -> None:
        self.wan, self.frames_per_block = wan, frames_per_block
        self.texts = wan.text_keys_values(text)
        self.blocks: dict[int, list[KeysValues]] = {}

    def velocity(self, plan: Pass, latents: Tensor, timesteps: Tensor) -> Tensor:
        modulation, head_modulation = self.wan.modulations(timesteps.flatten())
        sight = self._sight(plan, latents)
        return self.wan.velocity(
            latents,
            modulation,
            head_modulation,
            sight,
            self.texts,
            lambda layer, k, v: self._recall(plan, layer, k, v),
        )

    @torch.no_grad()
    def store(self, plan: Pass, clean: Tensor, timestep: float) -> None:
        kept: list[KeysValues] = []

        def recall(layer: int, k: Tensor, v: Tensor) -> KeysValues:
            kept.append((k, v))
            return self._recall(plan, layer, k, v)

        timesteps = torch.full((clean.shape[0] * clean.shape[2],), timestep)
        modulation, _ = self.wan.modulations(timesteps)
        # The last layer's K and V are stored; nobody sees what follows them.
        self.wan.store(clean, modulation, self._sight(plan, clean), self.texts[:-1], recall)
        self.blocks[plan.blocks.start] = kept

    def _recall(self, plan: Pass, layer: int, k: Tensor, v: Tensor) -> KeysValues:
        seen = [self.blocks[key.block][layer] for key in plan.history]
        keys, values = zip(*seen, (k, v), strict=True)
        return torch.cat(keys, 2), torch.cat(values, 2)

    def _sight(self, plan: Pass, latents: Tensor) -> Sight:
        own = torch.arange(plan.position, plan.position + latents.shape[2])
        block = torch.arange(self.frames_per_block)
        keys = torch.cat([*(key.position + block for key in plan.history), own])
        cos_q, sin_q = self.wan.rope(own, latents)
        cos_k, sin_k = self.wan.rope(keys, latents)
        return Sight(cos_q=cos_q, sin_q=sin_q, cos_k=cos_k, sin_k=sin_k)


class Rollout:
    """What both roll-outs need of a stream: its plan, its levels and one call of the network."""

    def __init__(self, generator: Generator, config: RollingConfig) -> None:
        self.generator, self.config = generator, config
        self.plan, self.table = RollingPlan(config), NoiseTable(config.shift)
        self.timesteps = torch.from_numpy(Levels(config).timesteps)

    def clean(self, plan: Pass, latents: Tensor, *, differentiate: bool) -> Tensor:
        """The prediction for all blocks of a pass."""
        assert plan.levels is not None
        timesteps = self.timesteps[list(plan.levels)]
        timesteps = timesteps.repeat_interleave(self.config.frames_per_block)
        timesteps = timesteps.expand(latents.shape[0], -1)
        with torch.set_grad_enabled(differentiate and torch.is_grad_enabled()):
            velocity = self.generator.velocity(plan, latents, timesteps)
            return clean_from(latents, velocity, self._sigma(timesteps))

    def renoised(self, clean: Tensor, level: int, draw: Tensor) -> Tensor:
        """A prediction at `level`."""
        return self.noised(clean, self.timesteps[level], draw)

    def noised(self, clean: Tensor, timestep: Tensor, draw: Tensor) -> Tensor:
        sigma = self._sigma(timestep).expand(clean.shape[0])
        return add_noise(clean.detach(), draw, sigma)

    def _sigma(self, timesteps: Tensor) -> Tensor:
        """Of the nearest entry of the table: at 0 it is not 0."""
        return torch.as_tensor(self.table.sigma_at(timesteps.cpu().numpy())).to(timesteps.device)

    def blocks(self, latents: Tensor) -> list[Tensor]:
        return list(latents.split(self.config.frames_per_block, 2))


def self_forcing(
    generator: Generator,
    config: RollingConfig,
    noise: Tensor,
    exit_level: int | Sequence[int],
    draw: Draw,
) -> Tensor:
    """noise [B, C, N * F, h, w] -> the predictions of all blocks at their exit level.

    `config.schedule` is sequential. `exit_level` is one for all blocks, or one per block. Gradients
    reach the last `GRADIENT_BLOCKS` blocks. Of block b, draw(b, l) re-noises the prediction of
    level l, and draw(b, exit level) is the noise of what is cached (as small as the table allows).
    """
    if config.schedule != "sequential":
        raise ValueError(f"schedule is {config.schedule!r}, wanted 'sequential'")
    run, made, blocks = Rollout(generator, config), [], noise.split(config.frames_per_block, 2)
    exits = [exit_level] * len(blocks) if isinstance(exit_level, int) else list(exit_level)
    for b, (x, last) in enumerate(zip(blocks, exits, strict=True)):
        supervised = b >= len(blocks) - GRADIENT_BLOCKS
        for level in range(last + 1):
            plan = run.plan.tick(b).denoise[level]
            clean = run.clean(plan, x, differentiate=supervised and level == last)
            if level < last:
                x = run.renoised(clean, level + 1, draw(b, level))
        made.append(clean)
        context = run.noised(clean, torch.tensor(config.context_timestep), draw(b, last))
        generator.store(run.plan.clean_pass(b), context, config.context_timestep)
    return torch.cat(made, 2)


def exit_interval(config: RollingConfig, exit_level: int) -> tuple[int, int]:
    """Levels (0..1000, before the shift) between which an exit's predictions lie."""
    steps = (*config.denoising_steps, 0)
    return steps[exit_level], steps[exit_level + 1]


def supervised(num_blocks: int, num_levels: int, offset: int, tick: int) -> range:
    """Blocks whose prediction in window `tick` is differentiated and returned."""
    first, last = max(0, tick - num_levels + 1), min(num_blocks - 1, tick)
    # A window counts as a whole if it reaches into the last GRADIENT_BLOCKS blocks.
    if tick % num_levels != offset or last < num_blocks - GRADIENT_BLOCKS:
        return range(0)
    return range(first, last + 1)


def rolling_forcing(
    generator: Generator,
    config: RollingConfig,
    noise: Tensor,
    offset: int,
    draw: Draw,
    *,
    zero_unsupervised: bool = False,
) -> Tensor:
    """noise [B, C, N * F, h, w] -> predictions of all blocks, of block b at level (offset - b) % d.

    `config.schedule` is diagonal, `offset` in 0..d-1 chooses the windows, draw(b, l) re-noises the
    prediction of level l. Blocks that no chosen window supervises hold their last prediction,
    without gradients, or zeros as in the release (`zero_unsupervised`).
    """
    if config.schedule != "diagonal":
        raise ValueError(f"schedule is {config.schedule!r}, wanted 'diagonal'")
    run, current = Rollout(generator, config), list(noise.split(config.frames_per_block, 2))
    num_blocks, last_level = len(current), config.num_levels - 1
    made: dict[int, Tensor] = {}
    for number in range(run.plan.num_ticks(num_blocks)):
        tick = run.plan.tick(number, num_blocks)
        if tick.store is not None:
            block = tick.store.blocks.start
            generator.store(tick.store, current[block], config.context_timestep)
        (window,) = tick.denoise
        chosen = supervised(num_blocks, config.num_levels, offset, number)
        latents = torch.cat([current[b] for b in window.blocks], 2)
        clean = run.clean(window, latents, differentiate=bool(chosen))
        for b, prediction in zip(window.blocks, run.blocks(clean), strict=True):
            if b in chosen:
                made[b] = prediction
            level = number - b
            if level < last_level:
                current[b] = run.renoised(prediction, level + 1, draw(b, level))
            else:
                current[b] = prediction.detach()
    unsupervised = torch.zeros_like if zero_unsupervised else torch.Tensor.detach
    return torch.cat([made.get(b, unsupervised(x)) for b, x in enumerate(current)], 2)
