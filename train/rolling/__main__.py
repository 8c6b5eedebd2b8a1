"""Train text to video on scenes: draw its clips, then its teacher, then its students. Judge them.

    python -m train.rolling clips --weights DIR --out CLIPS/train --clips 4000 --split train
    python -m train.rolling teacher --weights DIR --clips CLIPS --hours 8 --out DIR --resume
    python -m train.rolling student --weights DIR --clips CLIPS --teacher FILE --hours 3 --out DIR
    python -m train.rolling reader --weights DIR --clips CLIPS --hours 1 --out DIR
    python -m train.rolling evaluate --weights DIR --reader FILE --models NAME=FILE --out OUT

WEIGHTS holds vae.safetensors and text_encoder.safetensors. Hours are those of the processor, and
`--resume` goes on from the last save if there is one. An evaluation judges the first model by
gates.toml and compares the others with it; one that was stopped goes on by itself.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from rich.progress import track

from networks.checkpoint import load_checkpoint
from networks.compact_vae import build_vae
from train.learning import options
from train.preset import SCENES
from train.rolling import reader
from train.rolling.clips import CLIPS_PER_SHARD, write_shards
from train.rolling.distil import distil
from train.rolling.evaluate.evaluation import evaluate
from train.rolling.students import CHOICES, Recipe
from train.rolling.teacher import train
from train.world.clips import SPLITS


def draw(args: argparse.Namespace) -> None:
    """Write the shards that are missing, and say how long a clip takes."""
    torch.set_num_threads(1)
    vae = load_checkpoint(build_vae(SCENES.vae), args.weights / "vae.safetensors")
    begun, total = time.monotonic(), -(-args.clips // CLIPS_PER_SHARD)
    shards = write_shards(args.out, args.split, args.clips, args.blocks, vae, args.seed)
    for path in track(shards, "shards", total, disable=not sys.stderr.isatty()):
        print(path, flush=True)
    print(f"{(time.monotonic() - begun) / args.clips:.2f} s per clip")


def judged(rest: list[str]) -> argparse.Namespace:
    shared = ("weights", "out", "threads", "products")
    parser = options.parser("Judge text to video on unseen prompts.", *shared, threads=1)
    add = parser.add_argument
    add("--reader", type=Path, required=True, help="its reader.safetensors")
    add("--models", nargs="+", default=[], metavar="NAME=FILE[:RULES]",
        help="of pipeline.config.rules, or with ',no_sink' behind; rolling_forcing")  # fmt: skip
    add("--quick", action="store_true", help="3 prompts, one seed, 30 s: less certain")
    add("--prompts", type=int, help="so many instead")
    add("--seeds", type=int, help="so many of each prompt instead")
    add("--horizons-s", type=int, nargs="+", help="seconds, the longest of which is streamed")
    add("--split", choices=SPLITS, help="choose models on dev; test is only judged")
    add("--batch", type=int, default=4, help="streams side by side")
    add("--measured", type=Path, help="JSON of what was measured on the server")
    return parser.parse_args(rest)


def main() -> None:
    name, *rest = sys.argv[1:] or [""]
    if name == "clips":
        parser = options.parser("Draw scenes as latents.", "weights", "out", "seed")
        parser.add_argument("--clips", type=int, default=4000)
        parser.add_argument("--blocks", type=int, default=10, help="blocks of a clip")
        parser.add_argument("--split", choices=SPLITS, default="train")
        options.run(draw, parser.parse_args(rest))
    elif name == "teacher":
        shared = ("weights", "clips", "out", "steps", "threads", "seed", "every", "resume", "start",
                  "rate", "device", "parts", "workers", "products")  # fmt: skip
        parser = options.parser("Train the teacher.", *shared, threads=1, every=15.0)
        parser.add_argument("--hours", type=float, default=8.0, help="of the processor")
        options.run(train, parser.parse_args(rest))
    elif name == "student":
        shared = ("weights", "clips", "out", "steps", "threads", "seed", "every", "resume", "rate",
                  "device", "products")  # fmt: skip
        parser = options.parser("Train a student.", *shared, threads=1, every=15.0)
        parser.add_argument("--teacher", type=Path, required=True, help="its wan.safetensors")
        parser.add_argument("--rules", choices=CHOICES["rules"], default=CHOICES["rules"][0])
        parser.add_argument("--hours", type=float, default=3.0, help="of the processor")
        parser.add_argument("--guidance", type=float, default=Recipe.guidance)
        parser.add_argument("--batch", type=int, default=Recipe.batch, help="clips of a roll-out")
        parser.add_argument("--no-sink", action="store_true", help="an ablation")
        parser.add_argument(
            "--window-share", type=float, default=Recipe.window_share,
            help="of roll-outs, those in the joint window; 0 is an ablation",
        )  # fmt: skip
        options.run(distil, parser.parse_args(rest))
    elif name == "reader":
        shared = ("weights", "clips", "out", "steps", "threads", "seed", "every", "resume")
        parser = options.parser("Train the reader of words.", *shared, threads=1, every=6.0)
        parser.add_argument("--hours", type=float, default=1.0, help="of the processor")
        options.run(reader.train, parser.parse_args(rest))
    elif name == "evaluate":
        options.run(evaluate, judged(rest))
    else:
        known = "clips, teacher, student, reader, evaluate"
        sys.exit(f"python -m train.rolling: {name!r} is none of {known}\n{__doc__}")


if __name__ == "__main__":
    main()
