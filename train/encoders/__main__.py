"""Train the two encoders that stay frozen while the DiT learns, each on a lesson of its own.

    python -m train.encoders audio --minutes 12 --out out/encoders [--resume]
    python -m train.encoders text --minutes 4 --out out/encoders
    python -m train.encoders audio --evaluate --out out/encoders

OUT receives audio_encoder.safetensors or text_encoder.safetensors (averaged weights, for the
exporter), and in OUT/audio or OUT/text state.pt, log.jsonl and curve.png. Minutes are those of the
processor: what is learned does not depend on what else the machine does. With `--steps` instead,
the learning rate follows the steps, and equal seeds give equal weights.
"""

from train.encoders.training import work
from train.learning import options
from train.preset import PRESET


def main() -> None:
    shared = ("out", "minutes", "steps", "seed", "every", "resume", "start")
    parser = options.parser("Train or score an encoder.", *shared, minutes=12.0, every=1.5)
    parser.add_argument("lesson", choices=("audio", "text"))
    parser.add_argument("--evaluate", action="store_true", help="score what OUT holds")
    parser.add_argument(
        "--lookahead", type=int, nargs="+", default=[PRESET.pipeline.audio_lookahead_frames],
        help="of audio: video frames after a block, drawn from evenly",
    )  # fmt: skip
    options.run(work, parser.parse_args())


if __name__ == "__main__":
    main()
