"""Train the demo's VAE on the drawn world, or score it on faces it has never seen.

    python -m train.vae --minutes 60 --threads 2 --out out/vae [--resume]
    python -m train.vae --minutes 60 --start out/vae/vae.safetensors --out out/longer
    python -m train.vae --minutes 60 --encoder-of out/vae/vae.safetensors --out out/decoder
    python -m train.vae --evaluate --out out/vae

OUT receives vae.safetensors (averaged weights and latent statistics, for the exporter), state.pt,
log.jsonl, curve.png and samples.png. Clips of several `--workers` are taken as they come.
"""

from pathlib import Path

import torch

from train.learning import options
from train.preset import SIZE
from train.vae.loss import LossWeights
from train.vae.training import TEST_CLIPS, test, train
from train.vae.worlds import WORLDS


def main() -> None:
    shared = ("out", "minutes", "steps", "threads", "seed", "every", "rate", "resume")
    parser = options.parser(
        "Train or score the compact VAE.",
        *shared,
        "device",
        "parts",
        "workers",
        "products",
        every=2.0,
    )
    parser.add_argument("--size", type=int, default=SIZE, help="side of the picture in pixels")
    parser.add_argument("--world", choices=[*WORLDS], default="faces", help="what it draws")
    begins = parser.add_mutually_exclusive_group()
    begins.add_argument("--start", type=Path, help="a VAE to go on from")
    begins.add_argument("--encoder-of", type=Path, help="a VAE whose decoder alone goes on")
    parser.add_argument(
        "--change-weight", type=float, default=LossWeights().change,
        help="of errors in the change between frames: what moves inside a latent",
    )  # fmt: skip
    parser.add_argument(
        "--leftover", type=float, default=0.0,
        help="highest deviation of noise on latents: a decoder that sees through it",
    )  # fmt: skip
    parser.add_argument("--evaluate", action="store_true", help="score OUT/vae.safetensors")
    parser.add_argument("--clips", type=int, default=TEST_CLIPS, help="faces to evaluate on")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.leftover and not args.encoder_of:
        parser.error("--leftover is a decoder's alone: it wants --encoder-of")
    options.run(test if args.evaluate else train, args)


if __name__ == "__main__":
    main()
