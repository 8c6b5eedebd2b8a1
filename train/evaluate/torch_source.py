"""Frames from a DiT checkpoint, rolled out in torch on what the server's encoders would give it.

B takes   C channels   h w latent size
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from networks.dit import DiT
from pipeline.avatar.audio import StreamingAudio
from train.encoders.features import block_features
from train.evaluate.sources import Source, sampling_seed
from train.evaluate.takes import Take
from train.latents.frozen import FrozenNetworks
from train.network.batched_dit import Conditions
from train.network.stream import stream
from train.network.stream_network import RolloutOptions
from train.vae.video import decoded, to_video

WINDOWS = 32
"""Audio windows encoded together."""


@torch.no_grad()
def conditions_of(networks: FrozenNetworks, takes: Sequence[Take]) -> Conditions:
    """The encoders' outputs, cut as the server cuts them."""
    pictures = to_video(np.stack([take.reference for take in takes])[:, None])
    motion = networks.vae.encode(pictures, networks.still_frames)
    return Conditions(
        reference=motion[:, :, :1],
        motion=motion,
        text=torch.cat([networks.text_rows(take.caption) for take in takes]),
        audio=torch.stack([_heard(networks, take.audio) for take in takes]),
    )


def _heard(networks: FrozenNetworks, samples: np.ndarray) -> Tensor:
    """[layers, C, frames of all blocks]."""
    stream = StreamingAudio(networks.config)
    stream.append(samples)
    stream.finish()
    windows = list(iter(stream.next_window, None))
    groups = [windows[i : i + WINDOWS] for i in range(0, len(windows), WINDOWS)]
    features = [block_features(networks.audio, group) for group in groups]
    return torch.cat(list(torch.cat(features)), -1)


class TorchSource(Source):
    """A checkpoint with the options of its rollout."""

    def __init__(
        self, dit: DiT, networks: FrozenNetworks, options: RolloutOptions, *, batch: int = 8
    ) -> None:
        self.dit, self.networks, self.options, self.batch = dit, networks, options, batch

    @torch.no_grad()
    def generate(self, takes: Sequence[Take], seed: int) -> Iterator[np.ndarray]:
        conditions = conditions_of(self.networks, takes)
        still = conditions.motion[:, :, : self.networks.config.warmup_frames]
        seeds = [sampling_seed(take, seed) for take in takes]  # whoever else is in the batch
        latents = stream(self.dit, conditions, self.options, seeds)
        yield from decoded(self.networks.vae, still, latents)
