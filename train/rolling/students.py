"""Few-step students of the teacher, by the papers' recipes, from equal starts with equal budgets.

- `self_forcing` (arXiv 2506.08009): block after block on clean history, four levels, no sink
- `rolling_forcing` (arXiv 2509.25161): in half of the roll-outs the joint window, of which every
  d-th learns; in the other half block after block with the window's own sink and span

Both are pushed towards the teacher's distribution. What is changed in an ablation is a field of
`Recipe`.

B clips   n blocks of F latent frames   C channels   h, w latent size
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from networks.causal_wan import CausalWan
from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import under_rules
from train.distill.data import generator_of
from train.distill.dmd import Velocity
from train.distill.matching import DMD, Matching
from train.network import quick_layers
from train.network.stream_network import check
from train.preset import SCENES
from train.rolling.clips import SceneClips
from train.rolling.lessons import Texts
from train.rolling.network import guided_velocity
from train.rolling.rollout import CachedWan, Draw, rolling_forcing, self_forcing
from train.scenes.words import prompt

CHOICES = {"rules": ("rolling_forcing", "self_forcing")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Numbers of a student; rates and updates as the papers' where a small network allows."""

    rules: str  # of `pipeline.config.rules`
    blocks: int = 7  # of a roll-out: what the teacher scores as a whole
    sink: bool = True  # False: an ablation of rolling_forcing
    window_share: float = 0.5
    """Of rolling_forcing's roll-outs, those in the joint window; 0 is an ablation."""
    batch: int = 2
    generator_rate: float = 5e-5
    critic_rate: float = 1e-4
    critic_updates: int = 5  # per update of the student
    critic_lead: int = 20  # updates of the critic before the student's first
    rollouts: int = 2  # kept for the critic; each meets several of its updates, with other noise
    guidance: float = 3.0  # of the teacher as the real score; 1 is none
    ema: float = 0.99

    def __post_init__(self) -> None:
        check(self, CHOICES, "blocks", "batch", "critic_updates", "rollouts")
        if not 0 <= self.window_share <= 1:
            raise ValueError(f"window_share is {self.window_share}, wanted 0 to 1")

    def config(self, stream: RollingConfig) -> RollingConfig:
        """The rules that it is served under."""
        chosen = under_rules(stream, self.rules)
        return chosen if self.sink else dataclasses.replace(chosen, sink_frames=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Rows of B prompts [B, text_len, text_dim], and of an empty one."""

    told: Tensor
    empty: Tensor


class Student(Matching):
    """Student, its average, critic and teacher, with the prompts of a folder of scenes."""

    def __init__(
        self, teacher: CausalWan, recipe: Recipe, texts: Texts, seed: int, start: Any | None = None
    ) -> None:
        """`start`: what it begins as; None: as its teacher, which knows a window's levels."""
        super().__init__(teacher, recipe, seed, SCENES.stream.shift, start)
        self.texts, self.empty = texts, texts.rows([""]).to(self.device)
        self.rules = recipe.config(SCENES.stream)

    def roll_out(self, clips: SceneClips, purpose: int) -> tuple[Tensor, Prompts]:
        rng = np.random.default_rng([self.seed, DMD, self.dmd_step, purpose])
        chosen = rng.integers(len(clips), size=self.recipe.batch)
        told = self.texts.rows([prompt(clips.words(int(i)), rng)[0] for i in chosen])
        scene = Prompts(told=told.to(self.device), empty=self.empty)
        generator = generator_of(self.seed, DMD, self.dmd_step, purpose, device=self.device)
        _, channels, frames, height, width = self.rules.latent_shape
        size = (self.recipe.batch, channels, frames, height, width)

        def noise(*_: int) -> Tensor:
            return torch.randn(size, generator=generator, device=self.device)

        entering = torch.cat([noise() for _ in range(self.recipe.blocks)], 2)
        with quick_layers.products(self.device):
            return self._rolled(scene, entering, noise, rng).float(), scene

    def _rolled(
        self, scene: Prompts, entering: Tensor, noise: Draw, rng: np.random.Generator
    ) -> Tensor:
        cached = CachedWan(self.student, scene.told, self.rules.frames_per_block)
        turn = int(rng.integers(self.rules.num_levels))
        if self.rules.schedule == "diagonal" and rng.random() < self.recipe.window_share:
            return rolling_forcing(cached, self.rules, entering, turn, noise)
        return self_forcing(cached, block_after_block(self.rules), entering, turn, noise)

    def score(self, network: CausalWan, scene: Prompts, *, guided: bool) -> Velocity:
        guidance, texts = self.recipe.guidance if guided else 1.0, (scene.told, scene.empty)

        def velocity(noisy: Tensor, timesteps: Tensor) -> Tensor:
            each = timesteps[:, None].expand(-1, noisy.shape[2])
            return guided_velocity(network, noisy, each, texts, guidance)

        return velocity


def block_after_block(rules: RollingConfig) -> RollingConfig:
    """The same sink, span and levels with a window of one block."""
    return dataclasses.replace(rules, schedule="sequential")
