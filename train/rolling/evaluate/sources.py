"""Where streams come from that are judged: the truth, the VAE, or a network under its rules.

B streams side by side   T frames   S the picture's side
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from networks.causal_wan import CausalWan
from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import under_rules
from pipeline.denoising.noise import block_noise
from train.evaluate.metrics import Array
from train.preset import SCENES
from train.rolling.clips import AnyVAE
from train.rolling.evaluate.prompts import Asked
from train.rolling.evaluate.score import PIECE, SWITCH, SWITCH_BLOCKS
from train.rolling.lessons import Texts
from train.rolling.stream import stream
from train.scenes.clips import draw
from train.vae.video import reconstructed, to_frames

NO_SINK = "no_sink"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A network that is judged."""

    name: str
    path: Path
    rules: str = "rolling_forcing"
    """Of `pipeline.config.rules`; with ",no_sink" behind it nothing is kept for ever."""

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Of NAME=FILE[:rules]; ValueError says what is wrong."""
        name, equals, rest = text.partition("=")
        path, _, rules = rest.partition(":")
        if not (name and equals and path):
            raise ValueError(f"model is {text!r}, wanted NAME=FILE or NAME=FILE:rules")
        made = cls(name=name, path=Path(path), **({"rules": rules} if rules else {}))
        if not made.path.is_file():
            raise ValueError(f"model {name}: {path} is not there")
        made.config(SCENES.stream)
        return made

    def config(self, served: RollingConfig) -> RollingConfig:
        rules, _, without = self.rules.partition(",")
        if without not in ("", NO_SINK):
            raise ValueError(f"model {self.name}: rules end in {without!r}, wanted {NO_SINK!r}")
        chosen = under_rules(served, rules)
        return dataclasses.replace(chosen, sink_frames=0) if without else chosen


class Source(Protocol):
    """Something that answers prompts."""

    batch: int  # streams that are best asked for together

    def generate(
        self, prompts: Sequence[Asked], seed: int, num_frames: int, *, switch: bool
    ) -> Iterator[Array]:
        """uint8 [B, T, S, S, 3] piece by piece, at least `num_frames`. `switch`: the prompts change
        after `SWITCH` frames."""


class TruthSource:
    """Scenes as drawn: what does not find them perfect is no measure."""

    batch = 1

    def generate(
        self, prompts: Sequence[Asked], seed: int, num_frames: int, *, switch: bool
    ) -> Iterator[Array]:
        for start in range(0, num_frames, PIECE):
            stop = min(start + PIECE, num_frames)
            yield np.stack([drawn(each, seed, start, stop, switch) for each in prompts])


class ReconstructionSource:
    """The same through the VAE and back: no model that works in its latents does better."""

    batch = 1

    def __init__(self, vae: AnyVAE) -> None:
        self.vae = vae

    def generate(
        self, prompts: Sequence[Asked], seed: int, num_frames: int, *, switch: bool
    ) -> Iterator[Array]:
        def frames(start: int, stop: int) -> Array:
            return np.stack([drawn(each, seed, start, stop, switch) for each in prompts])

        yield from reconstructed(self.vae, frames, num_frames)


def drawn(asked: Asked, seed: int, start: int, stop: int, switch: bool) -> Array:
    """Frames of a true stream; after a switch the same character goes on under the other words."""
    cut = min(max(SWITCH, start), stop) if switch else stop
    parts = [(asked.seen_again(seed), start, cut), (asked.changed, cut, stop)]
    return np.concatenate([draw(made, to, first=at).frames for made, at, to in parts if to > at])


class NetworkSource:
    """A network in torch, block after block, as the server runs it for as long as one looks."""

    def __init__(
        self, wan: CausalWan, config: RollingConfig, texts: Texts, vae: AnyVAE, batch: int
    ) -> None:
        self.wan, self.config, self.texts, self.vae, self.batch = wan, config, texts, vae, batch

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Asked], seed: int, num_frames: int, *, switch: bool
    ) -> Iterator[Array]:
        shape = (1, *self.config.latent_shape[1:])
        seeds = [1000 * each.number + seed for each in prompts]  # whoever else is in the batch

        def noise(block: int, level: int) -> Tensor:
            drawn = [block_noise(own, block, shape, level) for own in seeds]
            return torch.from_numpy(np.concatenate(drawn))

        text, state = self.texts.rows([each.prompt for each in prompts]), None
        later = {SWITCH_BLOCKS: self.texts.rows([each.changed_prompt for each in prompts])}
        latents = stream(self.wan, self.config, text, noise, later=later if switch else None)
        for latent in islice(latents, self.config.blocks_of(num_frames)):
            video, state = self.vae.decode(latent.float(), state)
            yield to_frames(video)
