"""Train the demo's diffusion model by flow matching on latent clips: the teacher.

    python -m train.teacher --weights DIR --clips DIR --minutes 60 --out DIR [--resume]

WEIGHTS holds vae.safetensors, through which streams of it are looked at. CLIPS has two folders of
`train.latent_clips`, "train" and "dev". OUT receives dit.safetensors (averaged weights, for the
exporter), state.pt (everything to go on from), log.jsonl, curve.png and samples.png. With `--steps`
instead of `--minutes` the learning rate follows the steps, and equal seeds give equal weights.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np
import torch

from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.compact_vae import build_vae
from train.curve import write_curves
from train.latent_clips import LatentClips
from train.preset import PRESET
from train.teacher_pieces import SINK_DROPOUT, Lessons
from train.teacher_scores import DevClips
from train.teacher_training import Learners, Training

PANELS = {
    "loss": ("loss",),
    "error of the velocity": ("error_0", "error_1", "error_2"),
    "where there is mouth": ("mouth_0", "mouth_1", "mouth_2"),
    "mouth opening and width": ("opening", "width"),
}
SHOWN = ("error_0", "error_1", "error_2", "mouth_1", "mouth_2", "opening", "width")


def save(training: Training, out: Path) -> None:
    """Everything but the samples in OUT, the state last and in one move."""
    save_checkpoint(training.average, out / "dit.safetensors")
    write_curves(out / "curve.png", training.rows, PANELS)
    (out / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in training.rows))
    torch.save(training.state(), out / "state.partial")
    (out / "state.partial").replace(out / "state.pt")


def line(row: dict[str, float], progress: float) -> str:
    figures = " ".join(f"{name} {row[name]:.3f}" for name in SHOWN if name in row)
    return (
        f"{progress:4.0%} step {row['step']:.0f} {row['cpu_seconds']:.0f} CPU-s "
        f"loss {row['loss']:.4f} {figures}"
    )


def train(args: argparse.Namespace) -> None:
    """Start `threads` learners of one thread each; this process is the first of them."""
    args.out.mkdir(parents=True, exist_ok=True)
    together = Learners(args.threads) if args.threads > 1 else None
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


def learner(args: argparse.Namespace, together: Learners | None, rank: int) -> None:
    """Learn until the schedule ends; the first learner also keeps time, scores and saves."""
    torch.set_num_threads(1)
    training = Training(args.seed, together, rank, args.start)
    if args.resume:
        training.load(torch.load(args.out / "state.pt", weights_only=False))
    clips = LatentClips(args.clips / "train")
    lessons = Lessons(clips, training.seed, rank, args.sink_dropout)
    if rank:
        while (progress := training.agree(0.0)) < 1:
            training.learn(lessons, progress)
    else:
        _lead(training, lessons, args)


def _lead(training: Training, lessons: Lessons, args: argparse.Namespace) -> None:
    """The first learner's loop: it also keeps time, scores and saves."""
    dev = _dev_clips(args)
    begun, processor = time.monotonic() - 60 * training.minutes, time.process_time()
    spent, losses, scored = training.cpu_seconds, [], training.minutes
    while True:
        training.minutes = (time.monotonic() - begun) / 60
        training.cpu_seconds = spent + args.threads * (time.process_time() - processor)
        progress = training.step / args.steps if args.steps else training.minutes / args.minutes
        if progress >= 1 or training.minutes - scored >= args.every:
            scored = training.minutes
            row = {"step": training.step, "minutes": training.minutes,
                   "cpu_seconds": training.cpu_seconds,
                   "loss": float(np.mean(losses[-100:]))}  # fmt: skip
            training.rows.append(row | dev.scores(training.average, args.out / "samples.png"))
            print(line(training.rows[-1], progress), flush=True)
            save(training, args.out)
        if training.agree(progress) >= 1:
            return
        losses.append(training.learn(lessons, progress))


def _dev_clips(args: argparse.Namespace) -> DevClips:
    path = args.weights / "vae.safetensors"
    vae = load_checkpoint(build_vae(PRESET.vae), path) if path.is_file() else None
    if vae is None:
        print(f"no {path}: mouths are not looked at", file=sys.stderr)
    return DevClips(args.clips / "dev", vae)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the teacher on latent clips.")
    parser.add_argument("--weights", type=Path, required=True, help="folder of vae.safetensors")
    parser.add_argument("--clips", type=Path, required=True, help='has folders "train" and "dev"')
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the schedule")
    parser.add_argument("--steps", type=int, help="length of the schedule in steps instead")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=float, default=3.0, help="minutes between scores, saves")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--start", type=Path, help="dit.safetensors to go on from")
    parser.add_argument(
        "--sink-dropout", type=float, default=SINK_DROPOUT, help="share of steps without a sink"
    )
    args = parser.parse_args()
    if args.resume and not (args.out / "state.pt").is_file():
        sys.exit(f"{args.out}: no state.pt to resume from")
    train(args)


if __name__ == "__main__":
    main()
