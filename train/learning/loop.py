"""What the trainers of VAE and teacher share: several learners as one, their state, their clock.

Learners are processes of one thread each (two threads of one process gain little on such small
tensors). Each sees pieces of its own; gradients are averaged, so all keep equal weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import multiprocessing
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor, nn

from train.learning.curve import write_curves

WARM_STEPS = 60
PATIENCE = 600.0
"""Seconds that one learner waits for another, which may be scoring or saving."""


def averaged(decay: float, step: int) -> float:
    """The decay of the running average, shorter at the start."""
    return min(decay, (1 + step) / (10 + step))


class Together:
    """What `count` learners of `size` parameters share: a row of gradients each, and the first
    one's progress."""

    def __init__(self, count: int, size: int) -> None:
        self.rows = torch.zeros(count, size).share_memory_()
        self.progress = torch.zeros(1, dtype=torch.float64).share_memory_()
        self.barrier = multiprocessing.get_context("spawn").Barrier(count)

    def mean(self, tensors: list[Tensor], rank: int) -> None:
        """Replace each tensor by its mean over all learners; equal sums everywhere."""
        size = sum(t.numel() for t in tensors)
        torch.cat([t.flatten() for t in tensors], out=self.rows[rank, :size])
        self.barrier.wait(PATIENCE)
        mean = self.rows[:, :size].mean(0)
        self.barrier.wait(PATIENCE)
        for t, part in zip(tensors, mean.split([t.numel() for t in tensors]), strict=True):
            t.copy_(part.view_as(t))

    def agree(self, progress: float, rank: int) -> float:
        """The first learner's progress."""
        if rank == 0:
            self.progress.fill_(progress)
        self.barrier.wait(PATIENCE)
        agreed = float(self.progress)
        self.barrier.wait(PATIENCE)
        return agreed


class Learner:
    """A network, its running average, optimisers and place in the data."""

    EMA = 0.998
    """Decay of the running average per step."""
    KEPT = ("seed", "step", "minutes", "cpu_seconds", "rows")
    PARTS = ("network", "average", "muon", "adam")
    muon: torch.optim.Optimizer
    adam: torch.optim.Optimizer
    """Their groups hold the rate at the schedule's top as "highest"."""

    def __init__(
        self, seed: int, network: nn.Module, together: Together | None, rank: int, rate: float = 1.0
    ) -> None:
        """`together`: None for a learner that is alone. `rate`: times all learning rates. `network`
        learns where it is."""
        self.together, self.rank, self.rate, self.network = together, rank, rate, network
        self.seed, self.step, self.minutes, self.cpu_seconds = seed, 0, 0.0, 0.0
        self.learned = [p for p in network.parameters() if p.requires_grad]
        self.average: Any = copy.deepcopy(network).requires_grad_(False)
        self.rows: list[dict[str, float]] = []

    def descend(self, loss: Tensor, progress: float) -> Tensor:
        """One step down at `progress` 0..1 of the schedule; returns the loss, unread."""
        self.network.zero_grad()
        loss.backward()
        if self.together is not None:
            # What has no gradient in a step is the same in all learners.
            self.together.mean([p.grad for p in self.learned if p.grad is not None], self.rank)
        nn.utils.clip_grad_norm_(self.learned, 1.0)
        rate = min(1.0, (self.step + 1) / WARM_STEPS) * (1 + math.cos(math.pi * progress)) / 2
        for optimiser in (self.muon, self.adam):
            for group in optimiser.param_groups:
                group["lr"] = self.rate * rate * group["highest"]
            optimiser.step()
        with torch.no_grad():
            of = (list(network.parameters()) for network in (self.average, self.network))
            torch._foreach_lerp_(*of, 1 - averaged(self.EMA, self.step))
        self.step += 1
        return loss.detach()

    def agree(self, progress: float) -> float:
        """The first learner's progress, in all learners."""
        return progress if self.together is None else self.together.agree(progress, self.rank)

    def state(self) -> dict[str, Any]:
        """What `load` needs."""
        return {name: getattr(self, name) for name in self.KEPT} | {
            name: getattr(self, name).state_dict() for name in self.PARTS
        }

    def load(self, state: dict[str, Any]) -> None:
        for name in self.PARTS:
            getattr(self, name).load_state_dict(state[name])
        for name in self.KEPT:
            setattr(self, name, state[name])

    def save(self, out: Path, panels: Mapping[str, tuple[str, ...]]) -> None:
        """curve.png, log.jsonl and state.pt, the state last and in one move."""
        write_curves(out / "curve.png", self.rows, panels)
        (out / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        torch.save(self.state(), out / "state.partial")
        (out / "state.partial").replace(out / "state.pt")


def start_learners(
    args: argparse.Namespace,
    size: int,
    learner: Callable[[argparse.Namespace, Together | None, int], None],
) -> None:
    """Run `args.threads` learners of one thread each; this process is the first of them."""
    args.out.mkdir(parents=True, exist_ok=True)
    together = Together(args.threads, size) if args.threads > 1 else None
    spawn = multiprocessing.get_context("spawn")
    ranks = range(1, args.threads)
    others = [spawn.Process(target=learner, args=(args, together, rank)) for rank in ranks]
    for process in others:
        process.start()
    try:
        learner(args, together, 0)
    except BaseException:
        for process in others:
            process.terminate()
        raise
    for process in others:
        process.join()


def follow(training: Learner, learn: Callable[[float], Tensor]) -> None:
    """The loop of every learner but the first."""
    while (progress := training.agree(0.0)) < 1:
        learn(progress)


def lead(
    training: Learner,
    args: argparse.Namespace,
    learn: Callable[[float], Tensor],
    score: Callable[[bool], dict[str, float]],
    save: Callable[[float], None],
) -> None:
    """The first learner's loop: every `args.every` minutes it scores, adds a row and saves.

    `score` is told whether it is the last time.
    """
    begun, processor = time.monotonic() - 60 * training.minutes, time.process_time()
    spent, scored = training.cpu_seconds, training.minutes
    losses: deque[Tensor] = deque(maxlen=100)
    with Progress(disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("learning", total=1.0)
        while True:
            training.minutes = (time.monotonic() - begun) / 60
            training.cpu_seconds = spent + args.threads * (time.process_time() - processor)
            progress = training.step / args.steps if args.steps else training.minutes / args.minutes
            bar.update(task, completed=min(1.0, progress))
            if progress >= 1 or training.minutes - scored >= args.every:
                scored = training.minutes
                row = {
                    "step": training.step,
                    "minutes": training.minutes,
                    "cpu_seconds": training.cpu_seconds,
                    "loss": float(torch.stack([*losses]).mean()) if losses else math.nan,
                }
                training.rows.append(row | score(progress >= 1))
                save(progress)
            if training.agree(progress) >= 1:
                return
            losses.append(learn(progress))


def described(row: Mapping[str, float], progress: float, names: tuple[str, ...]) -> str:
    """A line of the log, with those of `names` that the row has."""
    figures = " ".join(f"{name} {row[name]:.3f}" for name in names if name in row)
    return (
        f"{progress:4.0%} step {row['step']:.0f} {row['cpu_seconds']:.0f} CPU-s "
        f"loss {row['loss']:.4f} {figures}"
    )
