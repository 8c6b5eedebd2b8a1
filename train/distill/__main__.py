"""Distil the many-step teacher into the few-step student that is served.

    python -m train.distill --weights DIR --teacher FILE --clips DIR --minutes 60 --out out/student
    python -m train.distill … --start STUDENT --ode-share 0     (matching alone, from a student)
    python -m train.distill … --corruption 0 --window-blocks 2 --no-sink     (ablations)
    python -m train.distill … --schedule rolling --blocks 7     (a Rolling-Forcing student)

First the teacher's trajectories are stored in OUT/trajectories (not counted in the minutes), then
the student learns them (`--ode-share` of the minutes), then from its own roll-outs by distribution
matching. WEIGHTS, CLIPS and OUT are as the teacher's. With `--steps A B` instead of `--minutes`,
equal seeds give equal weights.
"""

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import ClassVar

import torch
from rich.progress import track

from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.dit import DiT
from train.distill.data import Trajectories
from train.distill.rollout import Surroundings
from train.distill.training import CHOICES, Distillation, Recipe
from train.latents.clips import LatentClips
from train.learning import options
from train.learning.device import chosen
from train.learning.learner import Figures
from train.learning.loop import Run, load_state
from train.network import quick_layers
from train.network.stream_network import RolloutOptions
from train.preset import PRESET
from train.teacher.scores import LOOKS, DevClips

TRAJECTORY_BATCH = 8


class DistillRun(Run):
    """Regression, then matching. Scored by short streams on faces and voices of split "dev": do the
    mouths follow the sound?"""

    panels: ClassVar = {
        "regression loss": ("ode_loss",),
        "mean |gradient| of matching": ("gradient",),
        "critic loss": ("critic_loss",),
        **LOOKS,
    }
    shown = tuple(name for names in LOOKS.values() for name in names)

    def __init__(
        self, learners: Distillation, clips: LatentClips, args: argparse.Namespace
    ) -> None:
        self.learners, self.clips, self.trajectories = learners, clips, None
        if args.ode_share > 0 or (args.steps and args.steps[0]):
            self.trajectories = store_trajectories(args, clips, learners)
        self.stage, self.dev = 0, None
        if (args.clips / "dev").is_dir():
            self.dev = DevClips.of(args.clips, args.weights, args.device)
        else:
            print("no dev clips: mouths are not looked at", file=sys.stderr)
        super().__init__(learners, self.step, args)

    def both_stages(self) -> None:
        for self.stage, name in enumerate(("regression", "matching")):
            if self.progress() < 1:
                self.go(name)

    def progress(self) -> float:
        """How far the stage is: by its steps, or its share of the minutes."""
        args, stage = self.args, self.stage
        if args.steps:
            done = (self.learners.ode_step, self.learners.dmd_step)[stage]
            return done / args.steps[stage] if args.steps[stage] else 1.0
        begin, end = ((0.0, args.ode_share), (args.ode_share, 1.0))[stage]
        return (self.spent() / args.minutes - begin) / (end - begin) if end > begin else 1.0

    def step(self, progress: float) -> Figures:
        if self.stage == 1:
            return self.learners.match(self.clips)
        assert self.trajectories is not None
        return self.learners.regress(self.trajectories, progress)

    def score(self) -> Figures:
        if self.dev is None:
            return {}
        rolling = RolloutOptions(schedule="rolling", history="clean")
        options = rolling if self.args.schedule == "rolling" else None
        return self.dev.looks(self.learners.average, self.out / "samples.png", options)

    def write(self) -> None:
        save_checkpoint(self.learners.average, self.out / "dit.safetensors")


def distil(args: argparse.Namespace) -> Distillation:
    """Both stages; returns what has learned."""
    device = chosen(args)
    quick_layers.set_products(args.products)
    given = [path for path in (args.teacher, args.start) if path is not None]
    teacher, *start = (load_checkpoint(DiT(PRESET.dit), path).to(device) for path in given)
    learners = Distillation(teacher, recipe_of(args), args.seed, *start)
    if args.resume:
        load_state(learners, args.out, device)
    DistillRun(learners, LatentClips(args.clips / "train"), args).both_stages()
    return learners


def recipe_of(args: argparse.Namespace) -> Recipe:
    """What the options say; a recipe's own fields by their names."""
    config = PRESET.pipeline
    if args.window_blocks is not None:
        config = replace(config, window_blocks=args.window_blocks)
    around = Surroundings(config=config, sink=not args.no_sink, corruption=args.corruption)
    given = {f.name: getattr(args, f.name) for f in fields(Recipe) if hasattr(args, f.name)}
    return Recipe(around=around, recalibrate=not args.no_recalibration, **given)


def store_trajectories(
    args: argparse.Namespace, clips: LatentClips, learners: Distillation
) -> Trajectories:
    """Make those that OUT/trajectories lacks, and load all."""
    recipe = learners.recipe
    trajectories = Trajectories(args.out / "trajectories", args.seed)
    count = -(-args.trajectories // TRAJECTORY_BATCH)
    missing = [n for n in range(count) if not trajectories.path(n).is_file()]
    of = {"batch": min(TRAJECTORY_BATCH, args.trajectories), "blocks": recipe.blocks,
          "num_steps": args.teacher_steps, "guidance": recipe.ode_guidance}  # fmt: skip
    for number in track(missing, "trajectories", disable=not sys.stderr.isatty()):
        trajectories.make(number, clips, learners.teacher, recipe.around, **of)
    trajectories.load(count)
    return trajectories


def parser() -> argparse.ArgumentParser:
    """Options of the command; those of a stage are the fields of `Recipe`."""
    shared = ("weights", "clips", "out", "minutes", "threads", "seed", "every", "resume", "start")
    about = "Distil the teacher into a few-step student."
    parser = options.parser(about, *shared, "device", "products", threads=1)
    parser.add_argument("--teacher", type=Path, required=True, help="its dit.safetensors")
    parser.add_argument("--ode-share", type=float, default=0.35, help="of the minutes")
    parser.add_argument(
        "--steps", type=int, nargs=2, metavar=("A", "B"), help="of each stage, not minutes"
    )
    parser.add_argument("--trajectories", type=int, default=96, help="clips of regression")
    parser.add_argument("--teacher-steps", type=int, default=40, help="per trajectory")
    parser.add_argument(
        "--corruption", type=float, default=0.3, help="largest noise on history; 0: none"
    )
    parser.add_argument("--window-blocks", type=int, help="blocks seen; default: the preset's")
    parser.add_argument("--no-sink", action="store_true")
    parser.add_argument("--no-recalibration", action="store_true")
    kinds = {int: int, int | None: int, float: float}
    for field in fields(Recipe):
        option = "--" + field.name.replace("_", "-")
        if field.name in CHOICES:
            parser.add_argument(option, default=field.default, choices=CHOICES[field.name])
        elif field.type in kinds:
            parser.add_argument(option, default=field.default, type=kinds[field.type])
    return parser


def main() -> None:
    args = parser().parse_args()
    torch.set_num_threads(args.threads)
    options.run(distil, args)


if __name__ == "__main__":
    main()
