"""Train the two encoders that stay frozen while the DiT learns, each on a lesson of its own.

    python -m train.encoders audio --minutes 12 --out out/encoders [--resume]
    python -m train.encoders text --minutes 4 --out out/encoders
    python -m train.encoders audio --evaluate --out out/encoders

OUT receives audio_encoder.safetensors or text_encoder.safetensors (averaged weights, for the
exporter), and in OUT/audio or OUT/text state.pt (everything to go on from), log.jsonl and
curve.png. Minutes are those of the processor: what is learned does not depend on what else the
machine does. With `--steps` instead of `--minutes` the learning rate follows the steps, and equal
seeds give equal weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from train.encoders.audio import SHAPES, AudioLesson
from train.encoders.text import TextLesson
from train.learning.curve import write_curves
from train.learning.loop import averaged
from train.learning.muon import Muon
from train.preset import PRESET

MUON_RATE, ADAM_RATE = 2e-2, 2e-3
WARM_STEPS = 50
EMA = 0.995
STUDIED_LOOKAHEADS = range(5)


class Lesson(Protocol):
    """What is learned: a network, its loss at a step, its scores, what is kept of it."""

    name: str
    panels: dict[str, tuple[str, ...]]
    shown: tuple[str, ...]
    model: nn.Module

    def loss(self, model: Any, step: int) -> Tensor: ...
    def scores(self, model: Any) -> dict[str, float]: ...
    def save(self, model: Any, out: Path) -> None: ...


class Learner:
    """The lesson's network, its running average, optimisers and place."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson, self.model = lesson, lesson.model.eval()  # no dropout
        matrices, rest = [], []
        for name, p in self.model.named_parameters():
            inside = name.startswith("encoder.") and p.dim() > 1 and min(p.shape[:2]) > 1
            table = "shared" in name or "relative_attention_bias" in name
            (matrices if inside and not table else rest).append(p)
        self.muon = Muon(matrices, MUON_RATE)
        self.adam = torch.optim.AdamW(rest, ADAM_RATE, betas=(0.9, 0.99), weight_decay=0.0)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.step, self.cpu_seconds = 0, 0.0
        self.rows: list[dict[str, float]] = []

    def learn(self, progress: float) -> float:
        """One step at `progress` 0..1 of the schedule; returns the loss."""
        loss = self.lesson.loss(self.model, self.step)
        self.model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        rate = min(1.0, (self.step + 1) / WARM_STEPS) * (1 + math.cos(math.pi * progress)) / 2
        for optimiser, highest in ((self.muon, MUON_RATE), (self.adam, ADAM_RATE)):
            optimiser.param_groups[0]["lr"] = rate * highest
            optimiser.step()
        share = 1 - averaged(EMA, self.step)
        with torch.no_grad():
            for mean, p in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(p, share)
        self.step += 1
        return float(loss.detach())

    def save(self, out: Path) -> None:
        """Everything, the state last and in one move."""
        folder = out / self.lesson.name
        folder.mkdir(parents=True, exist_ok=True)
        self.lesson.save(self.average, out)
        write_curves(folder / "curve.png", self.rows, self.lesson.panels)
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        (folder / "log.jsonl").write_text(lines)
        kept = {name: getattr(self, name) for name in ("step", "cpu_seconds", "rows")}
        parts = {n: getattr(self, n).state_dict() for n in ("model", "average", "muon", "adam")}
        torch.save(kept | parts, folder / "state.partial")
        (folder / "state.partial").replace(folder / "state.pt")

    def load(self, out: Path) -> None:
        path = out / self.lesson.name / "state.pt"
        if not path.is_file():
            raise ValueError(f"{path} is missing: nothing to resume or evaluate")
        state = torch.load(path, weights_only=False)
        for name in ("step", "cpu_seconds", "rows"):
            setattr(self, name, state[name])
        for name in ("model", "average", "muon", "adam"):
            getattr(self, name).load_state_dict(state[name])


def train(learner: Learner, out: Path, minutes: float, steps: int | None, every: float) -> None:
    """Learn until the schedule of `minutes` or `steps` ends; score and save every few minutes."""
    begun = time.process_time() - learner.cpu_seconds
    scored, losses = learner.cpu_seconds, []
    with Progress(disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(learner.lesson.name, total=1.0)
        while True:
            learner.cpu_seconds = time.process_time() - begun
            progress = learner.step / steps if steps else learner.cpu_seconds / 60 / minutes
            bar.update(task, completed=min(progress, 1.0))
            if losses and (progress >= 1 or learner.cpu_seconds - scored >= 60 * every):
                scored = learner.cpu_seconds
                row = {"step": learner.step, "cpu_seconds": learner.cpu_seconds,
                       "loss": float(np.mean(losses[-100:]))}  # fmt: skip
                learner.rows.append(row | learner.lesson.scores(learner.average))
                print(line(learner.rows[-1], learner.lesson.shown, progress), flush=True)
                learner.save(out)
            if progress >= 1:
                return
            losses.append(learner.learn(progress))


def line(row: dict[str, float], shown: tuple[str, ...], progress: float) -> str:
    figures = " ".join(f"{name} {row[name]:.3f}" for name in shown)
    return (
        f"{progress:4.0%} step {row['step']:.0f} {row['cpu_seconds']:.0f} CPU-s "
        f"loss {row['loss']:.3f} {figures}"
    )


def study_lookahead(lesson: AudioLesson, model: nn.Module) -> None:
    """The mouth's correlations for each lookahead; the last line is JSON."""
    scores = {n: lesson.scores(model, n) for n in STUDIED_LOOKAHEADS}
    for n, row in scores.items():
        means = " ".join(f"{name} {row[name]:.3f}" for name in (*SHAPES, "closed", "silence"))
        print(f"lookahead {n} ({40 * n} ms): {means}")
        for name in SHAPES:
            frames = [value for key, value in row.items() if key.startswith(f"{name}_")]
            print(f"  {name:10} by frame " + " ".join(f"{value:.3f}" for value in frames))
    print(json.dumps(scores))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train or score an encoder.")
    parser.add_argument("lesson", choices=("audio", "text"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12.0, help="of processor time")
    parser.add_argument("--steps", type=int, help="length of the schedule in steps instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=float, default=1.5, help="minutes between scores")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--evaluate", action="store_true", help="score what OUT holds")
    parser.add_argument(
        "--lookahead", type=int, nargs="+", default=[PRESET.pipeline.audio_lookahead_frames],
        help="of audio: video frames after a block, drawn from evenly",
    )  # fmt: skip
    parser.add_argument(
        "--start", type=Path, help="of audio: audio_encoder.safetensors to go on from"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    is_audio = args.lesson == "audio"
    of = (PRESET, args.seed)
    try:
        audio = AudioLesson(*of, tuple(args.lookahead), args.start) if is_audio else None
        learner = Learner(audio or TextLesson(*of))
        if args.resume or args.evaluate:
            learner.load(args.out)
    except ValueError as error:
        sys.exit(str(error))
    if not args.evaluate:
        train(learner, args.out, args.minutes, args.steps, args.every)
    elif audio is not None:
        study_lookahead(audio, learner.average)
    else:
        print(json.dumps(learner.lesson.scores(learner.average)))


if __name__ == "__main__":
    main()
