"""Train the demo's diffusion model by flow matching on latent clips: the teacher.

    python -m train.teacher --weights DIR --clips DIR --minutes 60 --out DIR [--resume]

WEIGHTS holds vae.safetensors, through which streams of it are looked at. CLIPS has two folders of
`train.latents.clips`, "train" and "dev". OUT receives dit.safetensors (averaged weights, for the
exporter), state.pt (everything to go on from), log.jsonl, curve.png and samples.png. With `--steps`
instead of `--minutes` the learning rate follows the steps, and equal seeds give equal weights.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch

from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.compact_vae import build_vae
from networks.dit import DiT
from train.latents.clips import LatentClips
from train.learning.device import add_options, chosen
from train.learning.loop import Together, described, follow, lead, start_learners
from train.network import quick_layers
from train.preset import PRESET
from train.teacher.lessons import LessonsAhead
from train.teacher.pieces import SINK_DROPOUT, Lessons
from train.teacher.scores import DevClips
from train.teacher.training import Training

PANELS = {
    "loss": ("loss",),
    "error of the velocity": ("error_0", "error_1", "error_2"),
    "where there is mouth": ("mouth_0", "mouth_1", "mouth_2"),
    "where there are eyes": ("eyes_0", "eyes_1", "eyes_2"),
    "mouth opening and width": ("opening", "width"),
    "change over the VAE's": ("motion", "border"),
    "error of mean pictures (grey levels)": ("looks",),
}
SHOWN = ("error_0", "error_1", "error_2", "mouth_2", "eyes_2", "opening", "width",
         "motion", "border", "looks", "drift_soon", "drift")  # fmt: skip


def train(args: argparse.Namespace) -> None:
    """Train in `args.threads` processes until the schedule ends."""
    start_learners(args, sum(p.numel() for p in DiT(PRESET.dit).parameters()), learner)


def learner(args: argparse.Namespace, together: Together | None, rank: int) -> None:
    """Learn until the schedule ends; the first learner also keeps time, scores and saves."""
    torch.set_num_threads(1)
    device = chosen(args)
    quick_layers.set_products(args.products)
    training = Training(args.seed, together, rank, args.start, args.rate, device)
    if args.resume:
        state = torch.load(args.out / "state.pt", weights_only=False, map_location=device)
        training.load(state)
    clips = LatentClips(args.clips / "train")
    parts = [Lessons(clips, training.seed, rank * args.parts + part, args.sink_dropout)
             for part in range(args.parts)]  # fmt: skip
    lessons = LessonsAhead(parts, training.step, args.workers, device)
    learn = partial(training.learn, lessons)
    if rank:
        follow(training, learn)
        return
    dev = _dev_clips(args)

    def keep(progress: float) -> None:
        print(described(training.rows[-1], progress, SHOWN), flush=True)
        save_checkpoint(training.average, args.out / "dit.safetensors")
        training.save(args.out, PANELS)

    def score(last: bool) -> dict[str, float]:
        found = dev.scores(training.average, args.out / "samples.png")
        if last:  # which takes minutes
            training.save(args.out, PANELS)
            found |= dev.drift(training.average)
        return found

    lead(training, args, learn, score, keep)


def _dev_clips(args: argparse.Namespace) -> DevClips:
    path = args.weights / "vae.safetensors"
    vae = load_checkpoint(build_vae(PRESET.vae), path) if path.is_file() else None
    if vae is None:
        print(f"no {path}: mouths are not looked at", file=sys.stderr)
    return DevClips(args.clips / "dev", vae, args.device)


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
    parser.add_argument("--rate", type=float, default=1.0, help="times all learning rates")
    add_options(parser)
    quick_layers.add_option(parser)
    args = parser.parse_args()
    if args.resume and not (args.out / "state.pt").is_file():
        sys.exit(f"{args.out}: no state.pt to resume from")
    try:
        train(args)
    except ValueError as error:
        sys.exit(f"teacher: {error}")


if __name__ == "__main__":
    main()
