"""Distil the many-step teacher into the few-step student that is served.

    python -m train.distill --weights DIR --teacher FILE --clips DIR --minutes 60 --out out/student
    python -m train.distill … --start STUDENT --ode-share 0     (matching alone, from a student)
    python -m train.distill … --corruption 0 --window-blocks 2 --no-sink     (ablations)
    python -m train.distill … --schedule rolling --blocks 7     (a Rolling-Forcing student)

First the teacher's trajectories are stored in OUT/trajectories (not counted in the minutes), then
the student learns them (`--ode-share` of the minutes), then it learns from its own roll-outs by
distribution matching. WEIGHTS and CLIPS are the teacher's. OUT receives dit.safetensors (averaged
weights), state.pt (everything to go on from), log.jsonl, curve.png and samples.png. With
`--steps A B` instead of `--minutes`, equal seeds give equal weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.progress import Progress

from networks.checkpoint import load_checkpoint
from networks.dit import DiT
from train.distill.rollout import Surroundings, with_window
from train.distill.run import Run, mouth_probe, store_trajectories
from train.distill.training import CHOICES, Distillation, Recipe
from train.latents.clips import LatentClips
from train.learning.device import chosen
from train.network import quick_layers
from train.preset import PRESET

COUNTS = ("blocks", "ode_batch", "dmd_batch", "exits", "critic_updates", "critic_lead", "rollouts")
RATES = ("guidance", "ode_guidance", "ode_rate", "generator_rate", "critic_rate")
"""Fields of `Recipe` that are options of the same name."""


def distil(args: argparse.Namespace) -> Distillation:
    """Both stages; returns what has learned."""
    device = chosen(args)
    quick_layers.set_products(args.products)
    teacher, start = (
        load_checkpoint(DiT(PRESET.dit), path).to(device) if path else None
        for path in (args.teacher, args.start)
    )
    learners = Distillation(teacher, recipe_of(args), args.seed, start)
    clips = LatentClips(args.clips / "train")
    args.out.mkdir(parents=True, exist_ok=True)
    if args.resume:
        state = torch.load(args.out / "state.pt", weights_only=False, map_location=device)
        learners.load(state)
    stages = [(0.0, args.ode_share), (args.ode_share, 1.0)]
    trajectories = None
    if args.ode_share > 0 or (args.steps and args.steps[0]):
        trajectories = store_trajectories(args, clips, learners)
    run = Run(learners, args.out, mouth_probe(args), args.every)
    with Progress(disable=not sys.stderr.isatty()) as bar:
        for stage, (begin, end) in enumerate(stages):
            name = ("regression", "matching")[stage]
            task = bar.add_task(name, total=1.0)
            while (progress := _progress(run, args, stage, begin, end)) < 1:
                bar.update(task, completed=progress)
                if stage == 0:
                    run.add(learners.regress(trajectories, progress))
                else:
                    run.add(learners.match(clips))
            bar.update(task, completed=1.0)
            if run.recent:
                run.note()
    return learners


def _progress(run: Run, args: argparse.Namespace, stage: int, begin: float, end: float) -> float:
    """How far a stage is, 1 and more: done; by its steps, or by the run's minutes."""
    if args.steps:
        done = (run.learners.ode_step, run.learners.dmd_step)[stage]
        return done / args.steps[stage] if args.steps[stage] else 1.0
    if end <= begin:
        return 1.0
    return (run.minutes / args.minutes - begin) / (end - begin)


def recipe_of(args: argparse.Namespace) -> Recipe:
    config = with_window(PRESET.pipeline, args.window_blocks)
    around = Surroundings(config=config, sink=not args.no_sink, corruption=args.corruption)
    chosen = {name: getattr(args, name) for name in (*COUNTS, *RATES, *CHOICES)}
    return Recipe(around=around, recalibrate=not args.no_recalibration, **chosen)


def parser() -> argparse.ArgumentParser:
    defaults = {f: field.default for f, field in Recipe.__dataclass_fields__.items()}
    parser = argparse.ArgumentParser(description="Distil the teacher into a few-step student.")
    parser.add_argument("--weights", type=Path, required=True, help="folder of vae.safetensors")
    parser.add_argument("--teacher", type=Path, required=True, help="its dit.safetensors")
    parser.add_argument("--start", type=Path, help="a student to go on from, not the teacher")
    parser.add_argument("--clips", type=Path, required=True, help='has folders "train" and "dev"')
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="of both stages")
    parser.add_argument("--ode-share", type=float, default=0.35, help="of the minutes")
    parser.add_argument(
        "--steps", type=int, nargs=2, metavar=("A", "B"), help="of each stage, not minutes"
    )
    parser.add_argument("--trajectories", type=int, default=96, help="clips of regression")
    parser.add_argument("--teacher-steps", type=int, default=40, help="per trajectory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for a GPU")
    quick_layers.add_option(parser)
    parser.add_argument("--every", type=float, default=3.0, help="minutes between rows of the log")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--corruption", type=float, default=0.3, help="largest noise on history; 0: none"
    )
    parser.add_argument("--window-blocks", type=int, help="blocks seen; default: the preset's")
    parser.add_argument("--no-sink", action="store_true")
    parser.add_argument("--no-recalibration", action="store_true")
    for names, kind in ((COUNTS, int), (RATES, float)):
        for name in names:
            option = "--" + name.replace("_", "-")
            parser.add_argument(option, type=kind, default=defaults[name])
    for name, choices in CHOICES.items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, choices=choices, default=defaults[name])
    return parser


def main() -> None:
    args = parser().parse_args()
    torch.set_num_threads(args.threads)
    if args.resume and not (args.out / "state.pt").is_file():
        sys.exit(f"{args.out}: no state.pt to resume from")
    try:
        distil(args)
    except ValueError as error:
        sys.exit(f"distill: {error}")


if __name__ == "__main__":
    main()
