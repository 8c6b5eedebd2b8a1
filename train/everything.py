"""Everything from nothing: train all parts of the demo avatar in turn, judge it, export it.

    python -m train.everything --out build/train --hours 6 [--threads 2] [--seed 0]
    python -m train.everything --out build/train --hours 0.5 --device cuda

One folder of OUT per stage. A stage that ended leaves a file `done` and is skipped next time; one
that was stopped goes on from its last save. Hours are shared out among the stages that learn; the
clips, the judgement and the export come on top. OUT/artifacts is what `artifacts/demo` holds.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from train.learning import options

SHARES = {"vae": 0.30, "audio": 0.05, "text": 0.03, "teacher": 0.40, "student": 0.05,
          "decoder": 0.17}  # fmt: skip
"""Of the hours. The decoder goes on alone in the end, to see through what the student leaves of its
noise: latents, and all that is learned in them, stay valid."""
CLIPS_PER_HOUR, DEV_CLIPS = 500, 16
GPU_CLIPS_PER_HOUR, GPU_PARTS = 20_000, 16
"""A GPU learns faster, from the lessons of so many learners at once."""
CHANGE = ["--change-weight", "128"]
ALONE = [*CHANGE, "--rate", "0.5", "--leftover", "0.1"]
SINK = ["--sink-dropout", "0.05"]
MATCHING = ["--ode-share", "0", "--guidance", "1.15", "--blocks", "4"]
"""Without regression on trajectories: the teacher itself is a student to begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A command of `python -m`, and what makes its folder ready."""

    name: str
    command: list[str]
    state: Path | None = None
    """What a stopped run goes on from, with `--resume`; None: the command sees for itself."""
    prepare: Callable[[], object] = lambda: None


def stages(
    out: Path, hours: float, threads: int, seed: int, device: str, products: str
) -> list[Stage]:
    """The recipe, in order. On a GPU `threads` processes prepare what it learns from."""
    weights, clips, demo = out / "weights", out / "clips", out / "demo"
    minutes = {name: f"{60 * hours * share:.4g}" for name, share in SHARES.items()}
    same, workers = ["--seed", str(seed)], ["--workers", str(threads)]
    where = ["--device", device, "--threads", "1" if device != "cpu" else str(threads)]
    learners, batch, per_hour = [*same, *where], 3, CLIPS_PER_HOUR
    if device != "cpu":
        learners += ["--parts", str(GPU_PARTS), *workers]
        batch, per_hour = 24, GPU_CLIPS_PER_HOUR
    matching = [*same, *where, *MATCHING, "--dmd-batch", str(batch)]

    def encoder(name: str) -> Stage:
        return Stage(
            name=name,
            command=["train.encoders", name, "--minutes", minutes[name], "--out", str(weights),
                     *same],
            state=weights / name / "state.pt",
        )  # fmt: skip

    def latents(split: str, count: int) -> Stage:
        return Stage(
            name=f"clips_{split}",
            command=["train.latents", "--weights", str(weights), "--out", str(clips / split),
                     "--split", split, "--clips", str(count), *workers],
            prepare=lambda: shutil.copy(out / "vae" / "vae.safetensors", weights),
        )  # fmt: skip

    def learn(name: str, module: str, *options: str) -> Stage:
        return Stage(
            name=name,
            command=[module, "--minutes", minutes[name], "--out", str(out / name), *options],
            state=out / name / "state.pt",
        )

    def gather() -> None:
        states = shutil.ignore_patterns("audio", "text")
        shutil.copytree(weights, demo, dirs_exist_ok=True, ignore=states)
        shutil.copy(out / "student" / "dit.safetensors", demo)
        shutil.copy(out / "decoder" / "vae.safetensors", demo)

    given = ["--weights", str(weights), "--clips", str(clips), "--products", products]
    teacher = str(out / "teacher" / "dit.safetensors")
    return [
        learn("vae", "train.vae", *learners, *CHANGE),
        encoder("audio"),
        encoder("text"),
        latents("train", round(per_hour * hours)),
        latents("dev", DEV_CLIPS),
        learn("teacher", "train.teacher", *given, *learners, *SINK),
        learn("student", "train.distill", *given, *matching, "--teacher", teacher),
        learn("decoder", "train.vae", *learners, *ALONE, "--encoder-of",
              str(out / "vae" / "vae.safetensors")),
        Stage(
            name="artifacts",
            command=["export.to_onnx", "--preset", "demo", "--weights", str(demo),
                     "--out", str(out / "artifacts")],
            prepare=gather,
        ),
        Stage(
            name="report",
            command=["train.evaluate", "--quick", "--out", str(out / "report"), "--weights",
                     str(demo), "--teacher", teacher, "--artifacts", str(out / "artifacts")],
        ),
    ]  # fmt: skip


def run(stage: Stage, done: Path) -> None:
    """CalledProcessError if the stage fails; it goes on from its last save when called again."""
    stage.prepare()
    resume = stage.state is not None and stage.state.is_file()
    command = [sys.executable, "-m", *stage.command, *(["--resume"] if resume else [])]
    print(f"== {stage.name}{' goes on' if resume else ''}: {' '.join(command[1:])}", flush=True)
    subprocess.run(command, check=True)
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()


def main() -> None:
    shared = ("threads", "device", "seed", "products")
    parser = options.parser("Train the demo avatar from nothing.", *shared)
    parser.add_argument("--out", type=Path, default=Path("build/train"))
    parser.add_argument("--hours", type=float, default=6.0, help="of all stages that learn")
    parser.add_argument("--list", action="store_true", help="print the commands and stop")
    args = parser.parse_args()
    asked = (args.out, args.hours, args.threads, args.seed, args.device, args.products)
    for stage in stages(*asked):
        done = args.out / "done" / stage.name
        if args.list:
            print(f"{'done ' if done.exists() else '     '}python -m {' '.join(stage.command)}")
        elif done.exists():
            print(f"== {stage.name}: done before")
        else:
            run(stage, done)


if __name__ == "__main__":
    main()
