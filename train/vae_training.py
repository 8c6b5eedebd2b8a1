"""What learns in the VAE's training: network, optimisers, running average; alone or several as one.

Learners are processes of one thread each (two threads of one process gain little on such small
tensors). Each sees pieces of its own; gradients are averaged, so all keep equal weights.
"""

from __future__ import annotations

import copy
import math
import multiprocessing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from networks.checkpoint import load_checkpoint
from networks.compact_vae import CompactVAE
from networks.configs import CompactVAEConfig
from train.muon import Muon
from train.vae_clips import ClipStore
from train.vae_loss import LossWeights, start_linear, vae_loss

MUON_RATE, ADAM_RATE, SHORTCUT_RATE = 4e-2, 3e-3, 1e-3
WARM_STEPS = 60
EMA = 0.998


def averaged(decay: float, step: int) -> float:
    """The decay of the running average, shorter at the start."""
    return min(decay, (1 + step) / (10 + step))


class Together:
    """What learners share: a row of gradients each, and the first one's progress."""

    PATIENCE = 600.0
    """Seconds that one waits for another, which may be scoring or saving."""

    def __init__(self, count: int) -> None:
        size = sum(p.numel() for p in CompactVAE(CompactVAEConfig()).parameters())
        self.rows = torch.zeros(count, size).share_memory_()
        self.progress = torch.zeros(1, dtype=torch.float64).share_memory_()
        self.barrier = multiprocessing.get_context("spawn").Barrier(count)

    def mean(self, tensors: list[Tensor], rank: int) -> None:
        """Replace each tensor by its mean over all learners; equal sums everywhere."""
        size = sum(t.numel() for t in tensors)
        torch.cat([t.flatten() for t in tensors], out=self.rows[rank, :size])
        self.barrier.wait(self.PATIENCE)
        mean = self.rows[:, :size].mean(0)
        self.barrier.wait(self.PATIENCE)
        for t, part in zip(tensors, mean.split([t.numel() for t in tensors]), strict=True):
            t.copy_(part.view_as(t))

    def agree(self, progress: float, rank: int) -> float:
        """The first learner's progress."""
        if rank == 0:
            self.progress.fill_(progress)
        self.barrier.wait(self.PATIENCE)
        agreed = float(self.progress)
        self.barrier.wait(self.PATIENCE)
        return agreed


class Training:
    """Network, its average, optimisers and place in the data."""

    def __init__(
        self,
        seed: int,
        together: Together | None = None,
        rank: int = 0,
        encoder_of: Path | None = None,
        rate: float = 1.0,
    ) -> None:
        """`together`: None for a learner that is alone. `encoder_of`: go on from that VAE with a
        frozen encoder, so that latents made with it stay valid while the decoder improves.
        `rate`: what all learning rates are multiplied by."""
        torch.manual_seed(seed)
        self.together, self.rank, self.rate = together, rank, rate
        self.seed, self.step, self.minutes, self.cpu_seconds = seed, 0, 0.0, 0.0
        self.vae, self.weights = CompactVAE(CompactVAEConfig()), LossWeights()
        self.frozen = encoder_of is not None
        if encoder_of is not None:
            load_checkpoint(self.vae, encoder_of)
            self.vae.decoder.requires_grad_(True)
        named = [(name, p) for name, p in self.vae.named_parameters() if p.requires_grad]
        self.learned = [p for _, p in named]
        shortcuts = [p for name, p in named if "shortcut.weight" in name]
        matrices = [p for name, p in named if "shortcut" not in name and p.dim() > 4]
        rest = [p for name, p in named if p.dim() <= 4]
        self.muon = Muon(matrices, MUON_RATE)
        self.adam = torch.optim.AdamW(
            [
                {"params": rest, "highest": ADAM_RATE},
                {"params": shortcuts, "highest": SHORTCUT_RATE},
            ],
            betas=(0.9, 0.99),
            weight_decay=0.0,
        )
        self.muon.param_groups[0]["highest"] = MUON_RATE
        self.average = copy.deepcopy(self.vae).requires_grad_(False)
        self.rows: list[dict[str, float]] = []

    def start(self, store: ClipStore) -> None:
        """The linear start, from data; the same in all learners."""
        if self.frozen:
            return
        start_linear(self.vae, store.pieces(48, 13), self.weights)
        if self.together is not None:
            # Components of different data do not average: the others add nothing.
            values = [p.data for p in self.vae.parameters()]
            factor = len(self.together.rows) if self.rank == 0 else 0
            for value in values:
                value.mul_(factor)
            self.together.mean(values, self.rank)
        self.average.load_state_dict(self.vae.state_dict())

    def learn(self, store: ClipStore, progress: float) -> float:
        """One step at `progress` 0..1 of the schedule; returns the loss."""
        batch = store.batch(self.step)
        place = (self.seed * 1_000_003 + self.step) * 64 + store.part
        generator = torch.Generator().manual_seed(place)
        b, _, t, height, width = batch.video.shape
        shape = (b, self.vae.latent_mean.shape[0], (t - 1) // 4 + 1, height // 8, width // 8)
        noise = torch.randn(shape, generator=generator)
        loss = vae_loss(self.vae, batch, self.weights, noise)
        self.vae.zero_grad()
        loss.backward()
        if self.together is not None:
            self.together.mean([p.grad for p in self.learned], self.rank)
        nn.utils.clip_grad_norm_(self.learned, 1.0)
        rate = min(1.0, (self.step + 1) / WARM_STEPS) * (1 + math.cos(math.pi * progress)) / 2
        rate *= self.rate
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
        for mean, p in zip(self.average.parameters(), self.vae.parameters(), strict=True):
            mean.lerp_(p, share)

    def state(self) -> dict[str, Any]:
        """What `load` needs."""
        kept = ("seed", "step", "minutes", "cpu_seconds", "rows")
        parts = ("vae", "average", "muon", "adam")
        return {name: getattr(self, name) for name in kept} | {
            name: getattr(self, name).state_dict() for name in parts
        }

    def load(self, state: dict[str, Any]) -> None:
        for name in ("vae", "average", "muon", "adam"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("seed", "step", "minutes", "cpu_seconds", "rows"):
            setattr(self, name, state[name])
