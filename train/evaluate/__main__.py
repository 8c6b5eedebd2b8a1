"""Judge a trained avatar on faces, voices and sentences that it has never seen.

    python -m train.evaluate --out OUT --weights DIR --student FILE [--teacher FILE] [--quick]
    python -m train.evaluate --video FILE --audio FILE --face 3 [--out OUT]

OUT receives report.html (one file with its plots and pictures) and results.json with every run's
figures; a run that was stopped goes on. What lacks its files is left out and reported as not
measured. `--only truth vae` needs a VAE alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from train.evaluate.gates import Gate, Results, compare, gates, says
from train.evaluate.loop import Evaluation
from train.evaluate.metrics import METRICS
from train.evaluate.metrics_picture import COLOURED
from train.evaluate.models import Models
from train.evaluate.run import HORIZONS_S, RunScore
from train.evaluate.settings import FULL, HUMAN, QUICK, Sweep
from train.evaluate.statistics import Estimate, Runs, bootstrap, by_face, mean
from train.evaluate.store import Store
from train.evaluate.takes import take
from train.evaluate.video import read_sound, read_video
from train.network import quick_layers
from train.preset import SIZE
from train.world.clips import SPLITS

NUM_OTHERS = 4
"""Characters and sounds that a single video is compared with."""


def as_json(value: Estimate) -> dict[str, float | int | None]:
    """JSON has no nan."""
    ends = {"value": value.value, "low": value.low, "high": value.high}
    plain = {name: round(v, 5) if math.isfinite(v) else None for name, v in ends.items()}
    return {**plain, "faces": value.num_faces}


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
                for metric, change in compare(results, p).items() if change.known
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


def print_gates(judged: list[Gate]) -> None:
    for gate in judged:
        print(f"{gate.name:66} {gate.found!s:28} {gate.wanted:12} {gate.verdict}")


def judge_video(args: argparse.Namespace) -> dict[str, float]:
    """Figures of one saved stream."""
    audio = read_sound(args.audio)
    pieces = list(read_video(args.video, args.size))
    num_frames = min(sum(map(len, pieces)), -(-len(audio) // 640))
    wanted = take(args.face, num_frames, size=args.size, split=args.split, audio=audio,
                  mood=args.mood)  # fmt: skip
    others = [
        take(args.face + i, num_frames, size=args.size, split=args.split)
        for i in range(1, NUM_OTHERS + 1)
    ]
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
        Store(args.out).put_apart("video", found)
    return found.figures


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Judge a trained avatar on unseen faces.")
    parser.add_argument("--out", type=Path, help="folder of the report and the results")
    parser.add_argument("--weights", type=Path, help="folder: vae, audio_encoder, text_encoder")
    for name, about in (
        ("student", "the few-step DiT (safetensors); DIR/dit.safetensors if left out"),
        ("teacher", "the many-step DiT"),
        ("uncorrupted", "a student trained without history corruption"),
        ("sinkless", "a student trained without the sink"),
    ):
        parser.add_argument(f"--{name}", type=Path, help=about)
    parser.add_argument("--artifacts", type=Path, help="exported graphs, run by the served code")
    parser.add_argument("--human", type=Path, help="a recording to speak, reported apart")
    parser.add_argument("--guidance", type=float, default=1.0, help="audio guidance of the teacher")
    parser.add_argument("--teacher-history", choices=("own level", "clean"), default="own level",
                        help="what the teacher's blocks see of the ones before")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a few minutes, less certain")
    parser.add_argument("--only", nargs="+", default=[], metavar="SETTING")
    parser.add_argument("--faces", type=int, help="at most so many faces per setting")
    parser.add_argument("--seeds", type=int, help="at most so many seeds per face")
    parser.add_argument("--seconds", type=int, help="at most so many per run")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(),
                        help="cores that networks run on; all if left out")  # fmt: skip
    quick_layers.add_option(parser)
    parser.add_argument("--json", action="store_true", help="all figures in the last line")
    parser.add_argument("--video", type=Path, help="judge this saved stream instead")
    parser.add_argument("--audio", type=Path, help="what it speaks; its own track if left out")
    parser.add_argument("--face", type=int, help="clip seed of the video's character")
    parser.add_argument("--split", choices=SPLITS, default="test",
                        help="whose faces, voices and sentences; choose models on dev")  # fmt: skip
    parser.add_argument("--mood", help="of the video, if it is not the clip's")
    parser.add_argument("--size", type=int, default=SIZE, help="side of the generated picture")
    return parser


def main() -> None:
    parser = options()
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        if args.video is not None:
            if args.face is None:
                parser.error("--video wants --face: the clip seed of the character it shows")
            args.audio = args.audio or args.video
            figures = judge_video(args)
            if args.json:
                print(json.dumps({k: v for k, v in figures.items() if math.isfinite(v)}))
            return
        if args.out is None:
            parser.error("--out is wanted")
        evaluate(args)
    except ValueError as error:
        sys.exit(f"evaluate: {error}")


def evaluate(args: argparse.Namespace) -> None:
    from train.evaluate.report import write_report

    sweep = replace(QUICK if args.quick else FULL, split=args.split).resized(
        faces=args.faces, seeds=args.seeds, seconds=args.seconds
    )
    if args.only:
        sweep = sweep.chosen(args.only)
    names = ("student", "teacher", "uncorrupted", "sinkless")
    given = {name: getattr(args, name) for name in names}
    if given["student"] is None and args.weights is not None:
        student = args.weights / "dit.safetensors"
        given["student"] = student if student.is_file() else None
    models = Models(
        weights=args.weights, checkpoints={n: p for n, p in given.items() if p is not None},
        artifacts=args.artifacts, human=args.human, guidance=args.guidance,
        teacher_history=args.teacher_history, batch=sweep.batch,
        num_threads=args.threads, products=args.products,
    )  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    evaluation = Evaluation(sweep, models, args.out)
    results = evaluation.run()
    judged = gates(results)
    path = write_report(args.out / "report.html", evaluation, results, judged, quick=args.quick)
    print_gates(judged)
    print(f"{path}, {(time.monotonic() - begun) / 60:.1f} minutes")
    if args.json:
        print(json.dumps(everything(sweep, results, judged)))


if __name__ == "__main__":
    main()
