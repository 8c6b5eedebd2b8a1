"""What does a schedule cost on one device?

The same transformer size (6 layers of width 128, 64×64 pixels, 192 tokens per block) under every
schedule on one core. On the served graphs: Rolling Forcing's joint window, Self-Forcing's block
after block with a clean pass, and Live Avatar's timestep forcing, whose four steps are folded onto
the one device (its network also hears, and has a sink of its own). In PyTorch, where the avatar can
be rolled: timestep forcing, clean history block after block, the joint window. Weights do not
matter to the clock.

    python -m benchmarks.bench_schedules

Then the same avatar on 1 to 5 workers, of one thread each: sequential, in lockstep, and by timestep
forcing, with the decoder as the fifth station; and stations that sleep in place of those that
compute. The speed-up over sequential stands beside the ideal: what the stations' own times allow,
and for those that compute, what the cores do.

Schedules take turns, so that all of them meet whatever else the machine does. Frames per second are
those of denoising alone, in the steady state: the decoder costs all of them the same. Time to the
first frame is from the open session to the first decoded block. The last line is one JSON object:
per schedule the median, and over repetitions the lowest and highest median, of fps and ttff_ms;
cpu_ms_per_block, gflop_per_block, gflop_per_cpu_s; per way and number of workers ms_per_block,
speed_up and ideal.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.report import machine, table
from benchmarks.schedule_streams import STEADY, Avatar, Streams, every_schedule
from benchmarks.schedule_workers import (
    FILLED,
    NUM_STATIONS,
    computing,
    ideal,
    measured,
    sleepers,
    station_times,
)
from pipeline.avatar.stage import Stage
from pipeline.engines.base import Array

STEADY_SESSION, NEW_SESSION = 1, 2


def to_first_frame(streams: Streams) -> float:
    """Seconds from an open session to its first decoded block."""
    latents = streams.open(NEW_SESSION)
    began = time.perf_counter()
    streams.decode(NEW_SESSION, next(latents))
    passed = time.perf_counter() - began
    streams.close(NEW_SESSION)
    return passed


def per_block(latents: Iterator[Array], num_blocks: int) -> tuple[float, float]:
    """Median seconds of the next blocks, by the clock and of this process."""
    times = []
    for _ in range(num_blocks):
        began = time.perf_counter(), time.process_time()
        next(latents)
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    wall, cpu = np.median(times, axis=0).tolist()
    return wall, cpu


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Median, lowest, highest."""
    median = float(np.median(values))
    found = {name: median, f"{name}_low": min(values), f"{name}_high": max(values)}
    return {key: round(value, 1) for key, value in found.items()}


def workers(
    kind: str,
    found: dict[tuple[str, int], list[float]],
    times_s: Sequence[float],
    cores: int | None,
) -> list[dict[str, object]]:
    """Print the table of one kind of stations; the same for the JSON. `times_s` of the stations."""
    base = float(np.median(found["sequential", 1]))
    rows, report = [], []
    for (name, count), seconds in found.items():
        ms = spread("ms_per_block", [1e3 * s for s in seconds])
        speed_up, best = base / float(np.median(seconds)), ideal(times_s, count, cores)
        best = 1.0 if name == "sequential" else best
        figures = {"speed_up": round(speed_up, 3), "ideal": round(best, 3)}
        report.append({"schedule": name, "workers": count, **ms, **figures})
        rows.append([name, count, "{:g} ({:g}–{:g})".format(*ms.values()), *figures.values()])
    alone = ", ".join(f"{1e3 * t:.1f}" for t in times_s)
    print(f"\nstations that {kind}: {alone} ms each")
    print(table(["schedule", "workers", "ms/block", "speed-up", "ideal"], rows))
    return report


def measure_workers(
    avatar: Avatar, graphs: Path, blocks: int, repetitions: int, sleep_s: float
) -> dict[str, list[dict[str, object]]]:
    """Of stations that compute, and of those that sleep."""
    print("workers …", file=sys.stderr)
    stages = [Stage(graphs, [step]) for step in range(avatar.config.num_steps)]
    for stage in stages:
        stage.warm_up()
    compute = partial(computing, avatar, stages)
    with compute(NEW_SESSION) as stations:
        alone = station_times(stations, FILLED + 2 * blocks)
    cores, run = int(machine()["cores"]), FILLED + blocks + NUM_STATIONS
    both = {
        "compute": (measured(compute, run, repetitions), alone, cores),
        "sleep": (
            measured(lambda _: nullcontext(sleepers(sleep_s)), run, repetitions),
            [sleep_s] * len(alone),
            None,
        ),
    }
    return {kind: workers(kind, *found) for kind, found in both.items()}


def main(
    blocks: Annotated[int, typer.Option(help="per schedule and repetition")] = 10,
    repetitions: int = 7,
    sleep_ms: Annotated[float, typer.Option(help="of the stations that sleep")] = 50.0,
) -> None:
    """What does a schedule cost on one device, and what do workers bring?"""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        streams = every_schedule(STEADY + blocks * repetitions + 8, Path(folder))
        report = measure(streams, blocks, repetitions)
        (avatar,) = (s for s in streams if isinstance(s, Avatar))
        of_workers = measure_workers(
            avatar, Path(folder), blocks, min(repetitions, 3), sleep_ms / 1e3
        )
    print(json.dumps(report | {"workers": of_workers}))


def measure(compared: list[Streams], blocks: int, repetitions: int) -> dict[str, object]:
    """Print the table of what one device does; the same for the JSON."""
    steady = {}
    for streams in compared:
        print(f"{streams.name}: filling caches …", file=sys.stderr)
        to_first_frame(streams)
        latents = steady[streams.name] = streams.open(STEADY_SESSION)
        per_block(latents, STEADY)
    found: dict[str, list[tuple[float, ...]]] = {streams.name: [] for streams in compared}
    for repetition in range(repetitions):
        print(f"repetition {repetition + 1} of {repetitions} …", file=sys.stderr)
        for streams in compared:
            times = per_block(steady[streams.name], blocks)
            found[streams.name].append((*times, to_first_frame(streams)))
    report: dict[str, object] = {"benchmark": "schedules", **machine()}
    rows = []
    for streams in compared:
        block_s, cpu_s, first_s = zip(*found[streams.name], strict=True)
        fps = spread("fps", [streams.frames / s for s in block_s])
        ttff = spread("ttff_ms", [1e3 * s for s in first_s])
        gflop, cpu = streams.flops / 1e9, float(np.median(cpu_s))
        work = {
            "cpu_ms_per_block": round(1e3 * cpu, 1),
            "gflop_per_block": round(gflop, 2),
            "gflop_per_cpu_s": round(gflop / cpu, 1),
        }
        report[streams.name] = fps | ttff | work
        cells = ["{:g} ({:g}–{:g})".format(*figures.values()) for figures in (fps, ttff)]
        rows.append([streams.name, *cells, *work.values()])
    head = ["schedule", "frames/s", "first frame ms", "CPU ms/block", "GFLOP/block", "GFLOP/CPU s"]
    print(table(head, rows))
    return report


if __name__ == "__main__":
    typer.run(main)
