"""Judge a trained avatar on faces, voices and sentences that it has never seen.

    python -m train.evaluate --out OUT --weights DIR --student FILE [--teacher FILE] [--quick]
    python -m train.evaluate --video FILE --audio FILE --face 3 [--out OUT]

OUT receives report.html (one file with its plots and pictures) and results.json with every run's
figures; a run that was stopped goes on. What lacks its files is left out and reported as not
measured. `--only truth vae` needs a VAE alone.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from train.evaluate.evaluation import Evaluation
from train.evaluate.gates import Gate, Results, compare, gates, says
from train.evaluate.metrics import METRICS, Runs, as_json, bootstrap, by_face, mean
from train.evaluate.metrics_picture import COLOURED
from train.evaluate.models import Models
from train.evaluate.run import HORIZONS_S, RunScore, diversity
from train.evaluate.settings import FULL, HUMAN, QUICK, Sweep
from train.evaluate.store import Store
from train.evaluate.video import read_sound, read_video
from train.learning import options
from train.preset import SIZE
from train.world.clips import SPLITS, take

NUM_OTHERS = 4  # characters and sounds that a single video is compared with


def everything(sweep: Sweep, results: Results, judged: list[Gate]) -> dict[str, object]:
    """Every figure with its interval; what a recording says is apart, under "human"."""
    figures = {
        name: {m.name: as_json(m.estimate(runs)) for m in METRICS} for name, runs in results.items()
    }
    return {
        "settings": {name: found for name, found in figures.items() if name not in HUMAN},
        "human": {name: found for name, found in figures.items() if name in HUMAN},
        "horizons": {name: over_time(runs) for name, runs in results.items() if name not in HUMAN},
        "gates": {g.name: as_json(g.found) | {"wanted": g.wanted, "passed": g.passed}
                  for g in judged},
        "differences": {
            f"{p.one} against {p.other}": {
                metric: as_json(change) | {"says": says(change)}
                for metric, change in compare(results, p.one, p.other).items() if change.known
            }
            for p in sweep.pairs if p.one in results and p.other in results
        },
    }  # fmt: skip


def over_time(runs: Runs) -> dict[str, dict[str, object]]:
    """Colour errors, drift and margin in the last 5 s of each horizon that the runs reach."""
    names = (*(f"colour_{region}" for region in COLOURED), "drift", "margin")

    def reached(horizon: int) -> dict[str, object]:
        found = {n: bootstrap(mean, [by_face(runs, f"{n}_{horizon}s")]) for n in names}
        return {name: as_json(value) for name, value in found.items() if value.known}

    return {f"{horizon} s": kept for horizon in HORIZONS_S if (kept := reached(horizon))}


def judge_video(args: argparse.Namespace) -> None:
    audio = read_sound(args.audio or args.video)
    pieces = list(read_video(args.video, args.size))
    num_frames = min(sum(map(len, pieces)), -(-len(audio) // 640))
    of = {"size": args.size, "split": args.split}
    wanted = take(args.face, num_frames, **of, audio=audio, mood=args.mood)
    faces = range(args.face + 1, args.face + 1 + NUM_OTHERS)
    others = [take(face, num_frames, **of) for face in faces]
    score = RunScore(wanted, others)
    for frames in pieces:
        score.add(frames)
    found = score.finish()
    runs = {(args.face, 0): found.figures}
    for metric in METRICS:
        value = metric.estimate(runs)
        if value.known:
            print(f"{metric.title:60} {value.value:8.3f}")
    if args.out is not None:
        Store(args.out, diversity).put_apart("video", found)
    if args.json:
        print(json.dumps({k: v for k, v in found.figures.items() if math.isfinite(v)}))


CHECKPOINTS = {
    "student": "the few-step DiT (safetensors); DIR/dit.safetensors if left out",
    "teacher": "the many-step DiT",
    "uncorrupted": "a student trained without history corruption",
    "sinkless": "a student trained without the sink",
}


def parser() -> argparse.ArgumentParser:
    about = "Judge a trained avatar on unseen faces."
    parser = options.parser(about, "threads", "products", threads=torch.get_num_threads())
    add = parser.add_argument
    path, number = partial(add, type=Path), partial(add, type=int)
    path("--out", help="folder of the report and the results")
    path("--weights", help="folder: vae, audio_encoder, text_encoder")
    for name, what in CHECKPOINTS.items():
        path(f"--{name}", help=what)
    path("--artifacts", help="exported graphs, run by the served code")
    path("--human", help="a recording to speak, reported apart")
    path("--video", help="judge this saved stream instead")
    path("--audio", help="what it speaks; its own track if left out")
    number("--face", help="clip seed of the video's character")
    number("--size", default=SIZE, help="side of the generated picture")
    number("--faces", help="at most so many per setting")
    number("--seeds", help="at most so many per face")
    number("--seconds", help="at most so many per run")
    add("--mood", help="of the video, if it is not the clip's")
    add("--guidance", type=float, default=1.0, help="audio guidance of the teacher")
    add("--teacher-history", choices=("own level", "clean"), default="own level",
        help="what the teacher's blocks see of the ones before")  # fmt: skip
    add("--split", choices=SPLITS, default="test",
        help="whose faces, voices and sentences; choose models on dev")  # fmt: skip
    add("--only", nargs="+", default=[], metavar="SETTING")
    add("--quick", action="store_true", help="a few minutes, less certain")
    add("--json", action="store_true", help="all figures in the last line")
    return parser


def main() -> None:
    asked = parser()
    args = asked.parse_args()
    torch.set_num_threads(args.threads)
    if args.video is None and args.out is None:
        asked.error("--out is wanted")
    if args.video is not None and args.face is None:
        asked.error("--video wants --face: the clip seed of the character it shows")
    options.run(evaluate if args.video is None else judge_video, args)


def evaluate(args: argparse.Namespace) -> None:
    sweep = replace(QUICK if args.quick else FULL, split=args.split).resized(
        faces=args.faces, seeds=args.seeds, seconds=args.seconds
    )
    if args.only:
        sweep = sweep.chosen(args.only)
    given = {name: getattr(args, name) for name in CHECKPOINTS}
    if given["student"] is None and args.weights is not None:
        student = args.weights / "dit.safetensors"
        given["student"] = student if student.is_file() else None
    checkpoints = {name: path for name, path in given.items() if path is not None}
    named = ("weights", "artifacts", "human", "guidance", "teacher_history", "products")
    models = Models(checkpoints=checkpoints, batch=sweep.batch, num_threads=args.threads,
                    **{name: getattr(args, name) for name in named})  # fmt: skip
    from train.evaluate.report import write_report  # a saved video is judged without its plots

    args.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    evaluation = Evaluation(sweep, models, args.out)
    results = evaluation.run()
    judged = gates(results)
    path = write_report(args.out / "report.html", evaluation, results, judged, quick=args.quick)
    for gate in judged:
        print(f"{gate.name:66} {gate.found!s:28} {gate.wanted:12} {gate.verdict}")
    print(f"{path}, {(time.monotonic() - begun) / 60:.1f} minutes")
    if args.json:
        print(json.dumps(everything(sweep, results, judged)))


if __name__ == "__main__":
    main()
