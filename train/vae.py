"""Train the demo's VAE on the drawn world, or score it on faces it has never seen.

    python -m train.vae --minutes 60 --threads 2 --out out/vae [--resume]
    python -m train.vae --evaluate --out out/vae

OUT receives vae.safetensors (averaged weights and latent statistics, for the exporter), state.pt
(everything to go on from), log.jsonl, curve.png and samples.png. With `--steps` instead of
`--minutes` the learning rate follows the steps, and equal seeds give equal weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.compact_vae import CompactVAE
from networks.configs import CompactVAEConfig
from train.curve import write_curves
from train.data import Clip, clip
from train.muon import Muon
from train.vae_clips import ClipStore
from train.vae_loss import LossWeights, start_linear, vae_loss
from train.vae_scores import GATES, clip_scores, passes, reconstruct, summary

MUON_RATE, ADAM_RATE = 6e-3, 3e-3
WARM_STEPS = 60
EMA = 0.998
DEV_CLIPS, DEV_FRAMES = 12, 49
TEST_CLIPS, TEST_FRAMES = 32, 125
PANELS = {
    "PSNR (dB)": ("psnr", "psnr_mouth", "psnr_eyes"),
    "loss": ("loss",),
    "mouth opening and width": ("opening", "width"),
    "change at boundaries / inside": ("boundary_ratio",),
    "static flicker (grey levels)": ("static_flicker", "static_flicker_inside"),
    "motion inside latents": ("motion_inside", "motion_inside_along"),
}


def averaged(decay: float, step: int) -> float:
    """The decay of the running average, shorter at the start."""
    return min(decay, (1 + step) / (10 + step))


class Training:
    """Network, its average, optimisers and place in the data."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.seed, self.step, self.minutes, self.cpu_seconds = seed, 0, 0.0, 0.0
        self.vae, self.weights = CompactVAE(CompactVAEConfig()), LossWeights()
        matrices = [p for p in self.vae.parameters() if p.dim() > 4]
        rest = [p for p in self.vae.parameters() if p.dim() <= 4]
        self.muon = Muon(matrices, MUON_RATE)
        self.adam = torch.optim.AdamW(rest, ADAM_RATE, betas=(0.9, 0.99), weight_decay=0.0)
        self.average = copy.deepcopy(self.vae).requires_grad_(False)
        self.rows: list[dict[str, float]] = []

    def start(self, store: ClipStore) -> None:
        """The linear start, from data."""
        start_linear(self.vae, store.pieces(48, 13), self.weights)
        self.average.load_state_dict(self.vae.state_dict())

    def learn(self, store: ClipStore, progress: float) -> float:
        """One step at `progress` 0..1 of the schedule; returns the loss."""
        batch = store.batch(self.step)
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.step)
        b, _, t, height, width = batch.video.shape
        shape = (b, self.vae.latent_mean.shape[0], (t - 1) // 4 + 1, height // 8, width // 8)
        noise = torch.randn(shape, generator=generator)
        loss = vae_loss(self.vae, batch, self.weights, noise)
        self.vae.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        rate = min(1.0, (self.step + 1) / WARM_STEPS) * (1 + math.cos(math.pi * progress)) / 2
        for optimiser, highest in ((self.muon, MUON_RATE), (self.adam, ADAM_RATE)):
            optimiser.param_groups[0]["lr"] = rate * highest
            optimiser.step()
        self._average()
        self.step += 1
        return float(loss.detach())

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


@torch.no_grad()
def measure_latents(vae: CompactVAE, video: Tensor) -> None:
    """Set `latent_mean` and `latent_std` from video [B, 3, T, S, S]."""
    vae.latent_mean.zero_()
    vae.latent_std.fill_(1)
    means = torch.cat([vae.encode(piece) for piece in video.split(4)])
    vae.latent_mean.copy_(means.mean((0, 2, 3, 4)))
    vae.latent_std.copy_(means.std((0, 2, 3, 4)))


def evaluate(vae: CompactVAE, clips: list[Clip], *, find_pose: bool = False) -> dict[str, float]:
    """The gate's figures over `clips`, each of 1 + 4n frames."""
    return summary(
        [clip_scores(c, reconstruct(vae, c.frames), find_pose=find_pose) for c in clips]
    )


def write_samples(path: Path, vae: CompactVAE, clips: list[Clip]) -> None:
    """Frames 18 to 22 of some clips, truth above reconstruction."""
    rows = []
    for c in clips:
        made = reconstruct(vae, c.frames)
        for frames in (c.frames, made):
            rows.append(np.concatenate(list(frames[18:23]), 1))
    half = len(rows) // 2 + len(rows) // 2 % 2
    columns = [np.concatenate(rows[:half]), np.concatenate(rows[half : 2 * half])]
    if columns[0].shape == columns[1].shape:
        columns = [np.concatenate(columns, 1)]
    image = Image.fromarray(columns[0])
    image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(path)


def save(training: Training, store: ClipStore, dev: list[Clip], out: Path) -> None:
    """Everything in OUT, the state last and in one move."""
    vae = copy.deepcopy(training.average)
    measure_latents(vae, store.pieces(48, 29).video)
    save_checkpoint(vae, out / "vae.safetensors")
    write_curves(out / "curve.png", training.rows, PANELS)
    write_samples(out / "samples.png", vae, dev[:6])
    lines = "".join(json.dumps(row) + "\n" for row in training.rows)
    (out / "log.jsonl").write_text(lines)
    torch.save(training.state(), out / "state.partial")
    (out / "state.partial").replace(out / "state.pt")


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def line(row: dict[str, float], progress: float) -> str:
    shown = ("psnr", "psnr_mouth", "psnr_eyes", "opening", "width", "boundary_ratio")
    figures = " ".join(f"{name} {row[name]:.3f}" for name in shown)
    return (
        f"{progress:4.0%} step {row['step']:.0f} {row['cpu_seconds']:.0f} CPU-s "
        f"loss {row['loss']:.4f} {figures} flicker {row['static_flicker']:.2f}"
        f"/{row['static_flicker_inside']:.2f} motion {row['motion_inside']:.2f}"
        f"/{row['motion_inside_along']:.2f}"
    )


def train(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    training = Training(args.seed)
    if args.resume:
        training.load(torch.load(args.out / "state.pt", weights_only=False))
    dev = [clip(i, DEV_FRAMES, args.size, "dev") for i in range(DEV_CLIPS)]
    with ClipStore(training.seed, args.size, training.step) as store:
        if not args.resume:
            training.start(store)
        _loop(training, store, dev, args)


def _loop(training: Training, store: ClipStore, dev: list[Clip], args: argparse.Namespace) -> None:
    begun, processor = time.monotonic() - 60 * training.minutes, cpu_seconds()
    spent, losses, saved, scored = training.cpu_seconds, [], time.monotonic(), training.minutes
    while True:
        training.minutes = (time.monotonic() - begun) / 60
        training.cpu_seconds = spent + cpu_seconds() - processor
        progress = training.step / args.steps if args.steps else training.minutes / args.minutes
        if progress >= 1 or training.minutes - scored >= args.every:
            scored = training.minutes
            row = {"step": training.step, "minutes": training.minutes,
                   "cpu_seconds": training.cpu_seconds, "loss": float(np.mean(losses[-100:]))}
            training.rows.append(row | evaluate(training.average, dev))
            print(line(training.rows[-1], progress), flush=True)
            write_curves(args.out / "curve.png", training.rows, PANELS)
        if progress >= 1 or time.monotonic() - saved > 180:
            saved = time.monotonic()
            save(training, store, dev, args.out)
        if progress >= 1:
            return
        losses.append(training.learn(store, progress))


def test(args: argparse.Namespace) -> None:
    """Every gate's figure on fresh faces, whole clips; the last line is JSON."""
    vae = load_checkpoint(CompactVAE(CompactVAEConfig()), args.out / "vae.safetensors")
    clips = (clip(i, TEST_FRAMES, args.size, "test") for i in range(args.clips))
    result = evaluate(vae, list(clips), find_pose=True)
    passed = passes(result)
    for name, (sign, wanted) in GATES.items():
        verdict = "passes" if passed[name] else "FAILS"
        print(f"{name:16} {result[name]:8.3f}  {sign} {wanted:<6} {verdict}")
    for name in sorted(set(result) - set(GATES)):
        print(f"{name:24} {result[name]:8.3f}")
    print(json.dumps(result | {"passes": passed, "clips": args.clips, "size": args.size}))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train or score the compact VAE.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the schedule")
    parser.add_argument("--steps", type=int, help="length of the schedule in steps instead")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="side of the picture in pixels")
    parser.add_argument("--every", type=float, default=2.0, help="minutes between evaluations")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--evaluate", action="store_true", help="score OUT/vae.safetensors")
    parser.add_argument("--clips", type=int, default=TEST_CLIPS, help="faces to evaluate on")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.resume and not (args.out / "state.pt").is_file():
        sys.exit(f"{args.out}: no state.pt to resume from")
    (test if args.evaluate else train)(args)


if __name__ == "__main__":
    main()
