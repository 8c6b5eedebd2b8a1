"""What learns in the teacher's training: network, optimisers, running average; alone or several as
one, as in `train.vae_training`.
"""

from __future__ import annotations

import copy
import math
import multiprocessing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from networks.checkpoint import build_seeded, load_checkpoint
from networks.dit import DiT
from train.muon import Muon
from train.parallel import velocities
from train.preset import PRESET
from train.teacher_pieces import Lesson, Lessons, weighted_error
from train.vae_training import Together, averaged

MUON_RATE, ADAM_RATE = 2e-2, 2e-3
WARM_STEPS = 60
EMA = 0.998
START_GATE = 0.5
"""Added to the gates of a fresh network's branches."""


class Learners(Together):
    """Learners of a DiT: rows as long as its gradients."""

    def __init__(self, count: int) -> None:
        size = sum(p.numel() for p in DiT(PRESET.dit).parameters())
        self.rows = torch.zeros(count, size).share_memory_()
        self.progress = torch.zeros(1, dtype=torch.float64).share_memory_()
        self.barrier = multiprocessing.get_context("spawn").Barrier(count)


def fresh_dit(seed: int) -> DiT:
    """A network that starts with velocity = latent, its branches open.

    At high noise that is nearly right, and it need not learn to let the noise through.
    """
    dit = build_seeded(lambda: DiT(PRESET.dit), seed).requires_grad_(True)
    dim = PRESET.dit.dim
    with torch.no_grad():
        enter = dit.patch_embedding.weight.view(dim, -1)
        nn.init.orthogonal_(enter, gain=(dim / enter.shape[1]) ** 0.5, generator=_seeded(seed))
        # Inputs are (channel, row, column) of a patch, outputs (row, column, channel).
        back = dit.patch_embedding.weight.view(dim, PRESET.dit.channels, -1).transpose(1, 2)
        dit.head.head.weight.copy_(back.reshape(dim, -1).T / (dim / enter.shape[1]))
        for block in dit.blocks:
            block.modulation[:, [2, 5]] += START_GATE
        for injector in dit.audio_injector.injector:
            nn.init.normal_(injector.o.weight, std=0.5 * dim**-0.5, generator=_seeded(seed))
    return dit


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Training:
    """Network, its average, optimisers and place in the lessons."""

    def __init__(
        self,
        seed: int,
        together: Learners | None = None,
        rank: int = 0,
        start: Path | None = None,
    ) -> None:
        """`together`: None for a learner that is alone. `start`: weights to go on from."""
        self.together, self.rank = together, rank
        self.seed, self.step, self.minutes, self.cpu_seconds = seed, 0, 0.0, 0.0
        self.dit = fresh_dit(seed)
        if start is not None:
            load_checkpoint(self.dit, start).train().requires_grad_(True)
        # No pose is ever given, so this weight is never used.
        self.dit.cond_encoder.weight.requires_grad_(False)
        self.learned = [p for p in self.dit.parameters() if p.requires_grad]
        inner = [self.dit.blocks, self.dit.audio_injector, self.dit.casual_audio_encoder]
        matrices = [p for m in inner for name, p in m.named_parameters()
                    if p.dim() >= 2 and name.endswith("weight")]  # fmt: skip
        chosen = {id(p) for p in matrices}
        rest = [p for p in self.learned if id(p) not in chosen]
        self.muon = Muon(matrices, MUON_RATE)
        self.adam = torch.optim.AdamW(rest, ADAM_RATE, betas=(0.9, 0.99), weight_decay=0.0)
        for optimiser, highest in ((self.muon, MUON_RATE), (self.adam, ADAM_RATE)):
            optimiser.param_groups[0]["highest"] = highest
        self.average = copy.deepcopy(self.dit).requires_grad_(False)
        self.rows: list[dict[str, float]] = []

    def learn(self, lessons: Lessons, progress: float) -> float:
        """One step at `progress` 0..1 of the schedule; returns the loss."""
        loss = lesson_loss(self.dit, lessons.lesson(self.step))
        self.dit.zero_grad()
        loss.backward()
        if self.together is not None:
            # All parts have a sink in a step, or none: what has no gradient is the same in all.
            self.together.mean([p.grad for p in self.learned if p.grad is not None], self.rank)
        nn.utils.clip_grad_norm_(self.learned, 1.0)
        rate = min(1.0, (self.step + 1) / WARM_STEPS) * (1 + math.cos(math.pi * progress)) / 2
        for optimiser in (self.muon, self.adam):
            for group in optimiser.param_groups:
                group["lr"] = rate * group["highest"]
            optimiser.step()
        self._average()
        self.step += 1
        return float(loss.detach())

    def agree(self, progress: float) -> float:
        """The first learner's progress, in all learners."""
        return progress if self.together is None else self.together.agree(progress, self.rank)

    @torch.no_grad()
    def _average(self) -> None:
        share = 1 - averaged(EMA, self.step)
        torch._foreach_lerp_(list(self.average.parameters()), list(self.dit.parameters()), share)

    def state(self) -> dict[str, Any]:
        """What `load` needs."""
        kept = ("seed", "step", "minutes", "cpu_seconds", "rows")
        parts = ("dit", "average", "muon", "adam")
        return {name: getattr(self, name) for name in kept} | {
            name: getattr(self, name).state_dict() for name in parts
        }

    def load(self, state: dict[str, Any]) -> None:
        for name in ("dit", "average", "muon", "adam"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("seed", "step", "minutes", "cpu_seconds", "rows"):
            setattr(self, name, state[name])


def lesson_loss(dit: DiT, lesson: Lesson) -> torch.Tensor:
    velocity = velocities(
        dit,
        lesson.noisy,
        lesson.timesteps,
        lesson.conditions,
        starts=lesson.starts,
        sink=lesson.sink,
    )
    return weighted_error(velocity, lesson)
