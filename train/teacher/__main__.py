"""Train the demo's diffusion model by flow matching on latent clips: the teacher.

    python -m train.teacher --weights DIR --clips DIR --minutes 60 --out DIR [--resume]

WEIGHTS holds vae.safetensors, through which streams of it are looked at. CLIPS has two folders of
`train.latents`, "train" and "dev". OUT receives dit.safetensors (averaged weights, for the
exporter), state.pt (everything to go on from), log.jsonl, curve.png and samples.png. With `--steps`
instead of `--minutes` the learning rate follows the steps, and equal seeds give equal weights.
"""

from train.learning import options
from train.teacher.pieces import SINK_DROPOUT
from train.teacher.training import train


def main() -> None:
    shared = ("weights", "clips", "out", "minutes", "steps", "threads", "seed", "every", "resume")
    device = ("device", "parts", "workers", "products")
    about = "Train the teacher on latent clips."
    parser = options.parser(about, *shared, "start", "rate", *device)
    parser.add_argument(
        "--sink-dropout", type=float, default=SINK_DROPOUT, help="share of steps without a sink"
    )
    options.run(train, parser.parse_args())


if __name__ == "__main__":
    main()
