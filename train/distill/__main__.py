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
from dataclasses import fields
from pathlib import Path

import torch

from train.distill.run import distil
from train.distill.training import CHOICES, Recipe
from train.learning import options


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
