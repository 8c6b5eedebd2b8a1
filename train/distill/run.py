"""A run of distillation in its folder: its clock, its log, its stored trajectories."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.compact_vae import build_vae
from networks.dit import DiT
from train.distill.data import Trajectories
from train.distill.training import Distillation, Figures
from train.latents.clips import LatentClips
from train.learning.curve import write_curves
from train.network.stream_options import RolloutOptions
from train.preset import PRESET
from train.teacher.scores import DevClips, moved, write_samples

Probe = Callable[[DiT], Figures]
"""Scores of a student, such as how well its lips follow the sound."""
PANELS = {
    "regression loss": ("ode_loss",),
    "mean |gradient| of matching": ("gradient",),
    "critic loss": ("critic_loss",),
    "mouth opening and width": ("opening", "width"),
    "change over the VAE's": ("motion", "border"),
    "error of mean pictures (grey levels)": ("looks",),
}
TRAJECTORY_BATCH = 8


class Run:
    """One run in its folder: its learners, its clock and its log."""

    def __init__(
        self, learners: Distillation, out: Path, probe: Probe | None, every: float
    ) -> None:
        """`every`: minutes between a row of the log, each with the probe's scores."""
        self.learners, self.out, self.probe, self.every = learners, out, probe, every
        self.recent: dict[str, list[float]] = defaultdict(list)
        self.begun = time.monotonic() - 60 * learners.minutes
        self.processor = time.process_time() - learners.cpu_seconds
        self.noted = learners.minutes

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.begun) / 60

    def add(self, figures: Figures) -> None:
        """Take a step's figures; note and save if it is time."""
        for name, value in figures.items():
            self.recent[name].append(value)
        if self.minutes - self.noted >= self.every:
            self.note()

    def note(self) -> None:
        """A row of the log from all figures since the last one; then save everything."""
        self.noted, learners = self.minutes, self.learners
        learners.minutes = self.minutes
        learners.cpu_seconds = time.process_time() - self.processor
        row = {name: float(getattr(learners, name))
               for name in ("ode_step", "dmd_step", "minutes", "cpu_seconds")}  # fmt: skip
        row |= {name: float(np.mean(values)) for name, values in self.recent.items()}
        if self.probe is not None:
            row |= self.probe(learners.average)
        self.recent.clear()
        learners.rows.append(row)
        print(" ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        self.save()

    def save(self) -> None:
        """Everything in OUT, the state last and in one move."""
        learners, out = self.learners, self.out
        save_checkpoint(learners.average, out / "dit.safetensors")
        write_curves(out / "curve.png", learners.rows, PANELS)
        lines = "".join(json.dumps(row) + "\n" for row in learners.rows)
        (out / "log.jsonl").write_text(lines)
        torch.save(learners.state(), out / "state.partial")
        (out / "state.partial").replace(out / "state.pt")


def store_trajectories(
    args: argparse.Namespace, clips: LatentClips, learners: Distillation
) -> Trajectories:
    """Those that are missing in OUT/trajectories."""
    recipe = learners.recipe
    trajectories = Trajectories(args.out / "trajectories", args.seed)
    count = -(-args.trajectories // TRAJECTORY_BATCH)
    missing = [n for n in range(count) if not trajectories.path(n).is_file()]
    bar = not sys.stderr.isatty()
    for number in track(missing, "trajectories", disable=bar):
        trajectories.make(
            number,
            clips,
            learners.teacher,
            recipe.around,
            batch=min(TRAJECTORY_BATCH, args.trajectories),
            blocks=recipe.blocks,
            num_steps=args.teacher_steps,
            guidance=recipe.ode_guidance,
        )
    trajectories.load(count)
    return trajectories


def mouth_probe(args: argparse.Namespace) -> Probe | None:
    """Short streams on faces and voices of "dev": do the mouths follow the sound?"""
    path = args.weights / "vae.safetensors"
    if not path.is_file() or not (args.clips / "dev").is_dir():
        print("no VAE or no dev clips: mouths are not looked at", file=sys.stderr)
        return None
    vae = load_checkpoint(build_vae(PRESET.vae), path)
    dev = DevClips(args.clips / "dev", vae, args.device)
    rolling = RolloutOptions(schedule="rolling", history="clean")
    options = rolling if args.schedule == "rolling" else RolloutOptions()

    def probe(student: DiT) -> Figures:
        frames, cap = dev.frames(student, options), dev.reconstructed()
        write_samples(args.out / "samples.png", cap, frames)
        return dev.read(frames) | moved(frames, cap)

    return probe
