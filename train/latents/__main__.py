"""Draw the clips that the DiT learns from.

    python -m train.latents --weights DIR --out DIR --clips 2000 --blocks 8 --split train

WEIGHTS holds vae, audio_encoder and text_encoder.safetensors. OUT receives the shards.
"""

import argparse
import sys
import time

import torch
from rich.progress import track

from train.latents.clips import CLIPS_PER_SHARD, write_shards
from train.latents.takes import FrozenNetworks
from train.learning import options
from train.world.clips import SPLITS


def draw(args: argparse.Namespace) -> None:
    """Write the shards that are missing, and say how long a clip takes."""
    torch.set_num_threads(1)
    networks, begun = FrozenNetworks.load(args.weights), time.monotonic()
    of = (args.out, args.split, args.clips, args.blocks, networks, args.seed, args.workers)
    shards, total = write_shards(*of), -(-args.clips // CLIPS_PER_SHARD)
    for path in track(shards, "shards", total, disable=not sys.stderr.isatty()):
        print(path, flush=True)
    print(f"{(time.monotonic() - begun) / args.clips:.2f} s per clip")


def main() -> None:
    parser = options.parser(
        "Make the DiT's training clips.", "weights", "out", "seed", "workers", workers=1
    )
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--blocks", type=int, default=8, help="blocks of a clip")
    parser.add_argument("--split", choices=SPLITS, default="train")
    options.run(draw, parser.parse_args())


if __name__ == "__main__":
    main()
