"""Frames from a DiT checkpoint, rolled out in torch.

B takes   C channels   h w latent size
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from networks.dit import DiT
from train.evaluate.conditions import Encoders
from train.evaluate.sources import sampling_seed, to_frames
from train.evaluate.takes import Take
from train.network.stream import RolloutOptions, stream


class TorchSource:
    """A checkpoint with the options of its rollout."""

    def __init__(
        self, dit: DiT, encoders: Encoders, options: RolloutOptions, *, batch: int = 8
    ) -> None:
        self.dit, self.encoders, self.options, self.batch = dit, encoders, options, batch

    @torch.no_grad()
    def generate(self, takes: Sequence[Take], seed: int) -> Iterator[np.ndarray]:
        conditions, vae = self.encoders.conditions(takes), self.encoders.vae
        # As in the served decoder: the still picture runs up to block 0 and is thrown away.
        warm = conditions.motion[:, :, : self.encoders.config.warmup_frames]
        _, state = vae.decode(warm)
        seeds = [sampling_seed(take, seed) for take in takes]  # whoever else is in the batch
        for latents in stream(self.dit, conditions, self.options, seeds):
            frames, state = vae.decode(latents, state)
            yield to_frames(frames)

    def close(self) -> None:
        pass
