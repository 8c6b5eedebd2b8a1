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
GPU_CLIPS_PER_HOUR, GPU_PARTS = 20_000, 16  # it learns faster, of many learners' lessons at once
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
    state: Path | None = None  # what `--resume` goes on from; None: the command sees for itself
    prepare: Callable[[], object] = lambda: None


class Recipe:
    """The stages with their settings. On a GPU `threads` processes prepare what it learns from."""

    def __init__(
        self, out: Path, hours: float, threads: int, seed: int, device: str, products: str
    ) -> None:
        self.out, self.hours, self.products = out, hours, products
        self.weights, self.clips, self.demo = (out / name for name in ("weights", "clips", "demo"))
        self.teacher = str(out / "teacher" / "dit.safetensors")
        self.minutes = {name: f"{60 * hours * share:.4g}" for name, share in SHARES.items()}
        self.same, self.workers = ["--seed", str(seed)], ["--workers", str(threads)]
        self.gpu = device != "cpu"
        self.where = ["--device", device, "--threads", "1" if self.gpu else str(threads)]

    def stages(self) -> list[Stage]:
        per_hour, batch, parts = CLIPS_PER_HOUR, "3", []
        if self.gpu:
            per_hour, batch = GPU_CLIPS_PER_HOUR, "24"
            parts = ["--parts", str(GPU_PARTS), *self.workers]
        learners = [*self.same, *self.where, *parts]
        given = ["--weights", str(self.weights), "--clips", str(self.clips),
                 "--products", self.products]  # fmt: skip
        matching = [*self.same, *self.where, *MATCHING, "--dmd-batch", batch]
        encoder_of = ["--encoder-of", str(self.out / "vae" / "vae.safetensors")]
        return [
            self._learn("vae", "train.vae", *learners, *CHANGE),
            *(self._learn(name, "train.encoders", name, *self.same, root=self.weights)
              for name in ("audio", "text")),
            self._latents("train", round(per_hour * self.hours)),
            self._latents("dev", DEV_CLIPS),
            self._learn("teacher", "train.teacher", *given, *learners, *SINK),
            self._learn("student", "train.distill", *given, *matching, "--teacher", self.teacher),
            self._learn("decoder", "train.vae", *learners, *ALONE, *encoder_of),
            *self._judged(),
        ]  # fmt: skip

    def _learn(self, name: str, module: str, *options: str, root: Path | None = None) -> Stage:
        """Into a folder of its own; beside it, in `root`, are weights that several share."""
        folder = (root or self.out) / name
        command = [module, "--minutes", self.minutes[name], "--out", str(root or folder), *options]
        return Stage(name=name, command=command, state=folder / "state.pt")

    def _latents(self, split: str, count: int) -> Stage:
        command = ["train.latents", "--weights", str(self.weights), "--out",
                   str(self.clips / split), "--split", split, "--clips", str(count),
                   *self.workers]  # fmt: skip
        vae = self.out / "vae" / "vae.safetensors"
        return Stage(name=f"clips_{split}", command=command,
                     prepare=lambda: shutil.copy(vae, self.weights))  # fmt: skip

    def _judged(self) -> list[Stage]:
        artifacts, demo = str(self.out / "artifacts"), str(self.demo)
        export = ["export.to_onnx", "--preset", "demo", "--weights", demo, "--out", artifacts]
        evaluate = ["train.evaluate", "--quick", "--out", str(self.out / "report"), "--weights",
                    demo, "--teacher", self.teacher, "--artifacts", artifacts]  # fmt: skip
        return [
            Stage(name="artifacts", command=export, prepare=self._gather),
            Stage(name="report", command=evaluate),
        ]

    def _gather(self) -> None:
        states = shutil.ignore_patterns("audio", "text")
        shutil.copytree(self.weights, self.demo, dirs_exist_ok=True, ignore=states)
        shutil.copy(self.out / "student" / "dit.safetensors", self.demo)
        shutil.copy(self.out / "decoder" / "vae.safetensors", self.demo)


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
    for stage in Recipe(*asked).stages():
        done = args.out / "done" / stage.name
        if args.list:
            print(f"{'done ' if done.exists() else '     '}python -m {' '.join(stage.command)}")
        elif done.exists():
            print(f"== {stage.name}: done before")
        else:
            run(stage, done)


if __name__ == "__main__":
    main()
