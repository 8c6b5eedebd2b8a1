"""What does a schedule cost on one device?

The same transformer size (6 layers of width 128, 64×64 pixels, 192 tokens per block) under every
schedule on one core. On the served graphs: Rolling Forcing's joint window, Self-Forcing's block
after block with a clean pass, and Live Avatar's timestep forcing, whose four steps are folded onto
the one device (its network also hears, and has a sink of its own). In PyTorch, where the avatar can
be rolled: timestep forcing, clean history block after block, the joint window. Weights do not
matter to the clock.

    python -m benchmarks.bench_schedules

Then the same avatar on 1 to 5 workers, of one thread each: sequential, in lockstep, and by timestep
forcing, with the decoder as the fifth station; Rolling Forcing's joint window beside them; and
stations that sleep in place of those that compute. The speed-up over sequential stands beside the
ideal: what the stations' own times allow, and for those that compute, what the cores do.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.avatar_line import AvatarLine
from benchmarks.report import machine, table
from benchmarks.schedule_streams import STEADY, Streams, every_schedule, two_stations
from benchmarks.schedule_workers import (
    FILLED,
    NUM_STATIONS,
    Arrangement,
    forcing,
    ideal,
    measured,
    on_workers,
    sleepers,
    station_times,
    ways,
)
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


def spread(name: str, values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Median, lowest, highest."""
    median = float(np.median(values))
    found = {name: median, f"{name}_low": min(values), f"{name}_high": max(values)}
    return {key: round(value, digits) for key, value in found.items()}


def workers(
    kind: str, compared: Sequence[Arrangement], blocks: int, repetitions: int
) -> list[dict[str, object]]:
    """Measure one kind of stations and print the table; the same for the JSON. A speed-up is that
    of a repetition over sequential in the same one."""
    found = measured(compared, blocks, repetitions)
    base = found["sequential", 1]
    rows, report = [], []
    for one in compared:
        seconds = found[one.name, one.workers]
        ms = spread("ms_per_block", [1e3 * s for s in seconds])
        gains = [b / s for b, s in zip(base, seconds, strict=True)]
        gain, best = spread("speed_up", gains, digits=3), round(one.ideal, 3)
        row = {"schedule": one.name, "workers": one.workers}
        report.append({**row, **ms, **gain, "ideal": best})
        cells = ["{:g} ({:g}–{:g})".format(*figures.values()) for figures in (ms, gain)]
        rows.append([*row.values(), *cells, best])
    print(f"\nstations that {kind}")
    print(table(["schedule", "workers", "ms/block", "speed-up", "ideal"], rows))
    return report


def arrangements(
    stations: Callable[[int], Any], times_s: Sequence[float], cores: int | None
) -> list[Arrangement]:
    """Every way to run the same stations, each of which takes so long by itself."""
    return [
        Arrangement(
            name=name,
            workers=count,
            run=run,
            stations=stations,
            ideal=1.0 if name == "sequential" else ideal(times_s, count, cores),
        )
        for name, count, run in ways()
    ]


def joint_window(streams: Streams, blocks: int, cores: int, base_s: float) -> Iterator[Arrangement]:
    """Rolling Forcing's window and its decoder on one worker, and on two."""
    with two_stations(streams, NEW_SESSION) as stations:
        alone = station_times(stations, blocks)
    for count in (1, 2):
        yield Arrangement(
            name="joint window",
            workers=count,
            run=on_workers(forcing, count),
            stations=partial(two_stations, streams),
            ideal=ideal(alone, count, cores, base_s),
        )


def measure_workers(
    line: AvatarLine, window: Streams, blocks: int, repetitions: int, sleep_s: float
) -> dict[str, list[dict[str, object]]]:
    """Of stations that compute, and of those that sleep."""
    print("workers …", file=sys.stderr)
    with line.stations(NEW_SESSION) as stations:
        alone = station_times(stations, FILLED + 2 * blocks)
    cores, run = int(machine()["cores"]), FILLED + blocks + NUM_STATIONS
    slept = arrangements(lambda _: nullcontext(sleepers(sleep_s)), [sleep_s] * NUM_STATIONS, None)
    computed = arrangements(line.stations, alone, cores)
    computed += joint_window(window, FILLED + 2 * blocks, cores, sum(alone))
    both = {"compute": computed, "sleep": slept}
    return {kind: workers(kind, compared, run, repetitions) for kind, compared in both.items()}


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
        line = AvatarLine(Path(folder))
        of_workers = measure_workers(line, streams[0], blocks, min(repetitions, 3), sleep_ms / 1e3)
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
