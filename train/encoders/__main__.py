"""Train the two encoders that stay frozen while the DiT learns, each on a lesson of its own.

    python -m train.encoders audio --minutes 12 --out out/encoders [--resume]
    python -m train.encoders text --minutes 4 --out out/encoders
    python -m train.encoders scenes --minutes 6 --out out/text-to-video
    python -m train.encoders audio --evaluate --out out/encoders

OUT receives audio_encoder.safetensors or text_encoder.safetensors (averaged weights, for the
exporter), and in OUT/audio or OUT/text state.pt, log.jsonl and curve.png. Minutes are those of the
processor: what is learned does not depend on what else the machine does.
"""

import argparse
import json

import torch
from torch import Tensor, nn

from train.encoders.audio import SHAPES, AudioLesson
from train.encoders.prompts import of_faces, of_scenes
from train.encoders.text import TextLesson
from train.learning import options
from train.learning.learner import AveragedLearner, Figures
from train.learning.loop import Run, load_state
from train.preset import PRESET

MUON_RATE, ADAM_RATE = 2e-2, 2e-3
STUDIED_LOOKAHEADS = range(5)
Lesson = AudioLesson | TextLesson  # a network as `model`, its loss at a step, its scores, its files


class Training(AveragedLearner):
    """The lesson's network, its running average, optimisers and place."""

    EMA = 0.995
    WARM_STEPS = 50

    def __init__(self, lesson: Lesson, seed: int = 0) -> None:
        super().__init__(seed, lesson.model.eval())  # no dropout
        self.lesson = lesson
        matrices, rest = [], []
        for name, p in self.network.named_parameters():
            inside = name.startswith("encoder.") and p.dim() > 1 and min(p.shape[:2]) > 1
            table = "shared" in name or "relative_attention_bias" in name
            (matrices if inside and not table else rest).append(p)
        self.optimise((matrices, MUON_RATE), (rest, ADAM_RATE))

    def learn(self, progress: float) -> Tensor:
        return self.descend(self.lesson.loss(self.network, self.step), progress)


class EncoderRun(Run):
    """Its minutes are those of the processor."""

    def __init__(self, training: Training, args: argparse.Namespace) -> None:
        self.training, self.lesson = training, training.lesson
        self.panels, self.shown = self.lesson.panels, self.lesson.shown
        super().__init__(training, training.learn, args)
        self.out = args.out / args.lesson

    def spent(self) -> float:
        return self.training.cpu_seconds / 60

    def score(self) -> Figures:
        return self.lesson.scores(self.training.average)

    def write(self) -> None:
        self.lesson.save(self.training.average, self.args.out)


def work(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    audio = None
    if args.lesson == "audio":
        audio = AudioLesson(PRESET, args.seed, tuple(args.lookahead), args.start)
    language = of_scenes() if args.lesson == "scenes" else of_faces(PRESET)
    training = Training(audio or TextLesson(language, args.seed, args.start), args.seed)
    if args.resume or args.evaluate:
        load_state(training, args.out / args.lesson)
    if not args.evaluate:
        EncoderRun(training, args).go(args.lesson)
    elif audio is not None:
        study_lookahead(audio, training.average)
    else:
        print(json.dumps(training.lesson.scores(training.average)))


def study_lookahead(lesson: AudioLesson, model: nn.Module) -> None:
    """The mouth's correlations for each lookahead; the last line is JSON."""
    scores = {n: lesson.scores(model, n) for n in STUDIED_LOOKAHEADS}
    for n, row in scores.items():
        means = " ".join(f"{name} {row[name]:.3f}" for name in (*SHAPES, "closed", "silence"))
        print(f"lookahead {n} ({40 * n} ms): {means}")
        for name in SHAPES:
            frames = [value for key, value in row.items() if key.startswith(f"{name}_")]
            print(f"  {name:10} by frame " + " ".join(f"{value:.3f}" for value in frames))
    print(json.dumps(scores))


def main() -> None:
    shared = ("out", "minutes", "steps", "seed", "every", "resume", "start")
    parser = options.parser("Train or score an encoder.", *shared, minutes=12.0, every=1.5)
    parser.add_argument("lesson", choices=("audio", "text", "scenes"))
    parser.add_argument("--evaluate", action="store_true", help="score what OUT holds")
    parser.add_argument(
        "--lookahead", type=int, nargs="+", default=[PRESET.pipeline.audio_lookahead_frames],
        help="of audio: video frames after a block, drawn from evenly",
    )  # fmt: skip
    options.run(work, parser.parse_args())


if __name__ == "__main__":
    main()
