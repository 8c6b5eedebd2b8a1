"""The student on its own clean history in Rolling Forcing's joint window (arXiv 2509.25161).

Of the windows of a clip every d-th learns, d the number of levels: so each block is predicted once
with a gradient, at the level it has in that window (docs/method.md section 9). Windows between
them, and the clean passes that fill the cache, are constant. Streams run as in
`train.network.stream`: unlike in the paper every roll-out rolls, and steps are Euler's, without
fresh noise.

B clips   n blocks of a clip   F latent frames of a block   C channels   h, w latent size
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from networks.dit import DiT
from pipeline.denoising.schedule import clean_of
from pipeline.rolling.plan import Pass
from train.distill.rollout import Surroundings, corrupted
from train.network.batched_dit import Conditions
from train.network.stream import CleanHistory, given_noise
from train.network.stream_network import RolloutOptions, StreamNetwork


def rolling_rollout(
    dit: DiT,
    conditions: Conditions,
    starts: Sequence[int],
    around: Surroundings,
    generator: torch.Generator,
    noise: Tensor,
    offset: int,
    *,
    recalibrate: bool = True,
) -> Tensor:
    """noise [B, C, n * F, h, w] -> clean latents, block b's predicted at level (offset - b) % d.

    `offset` in 0..d-1 chooses the windows, `generator` draws the corruption of what is cached.
    """
    options = RolloutOptions(
        num_steps=around.config.num_steps,
        schedule="rolling",
        history="clean",
        sink=around.sink,
        recalibrate=recalibrate,
    )
    network = StreamNetwork(dit, conditions, options, around.config, starts)
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
