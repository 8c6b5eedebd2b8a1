"""What would a server with GPUs that are not here do?

    python -m benchmarks.plan --gpu H800 --gpus 5 --area 720x400 --precision fp8

Work is counted on the modules that the graphs are exported from, memory as by `make gpu-plan`. The
pipeline is simulated. How much of a GPU's peak a program reaches is fitted to published figures,
and the errors at others are printed (`--calibration`). Words: docs/metrics.md. The last line is one
JSON object.
"""

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.planner import printing
from benchmarks.planner.cluster import Demand
from benchmarks.planner.deployment import Deployment, changes, forecast
from benchmarks.planner.efficiency import SOFTWARE, software_named
from benchmarks.planner.hardware import GPUS, gpu_named
from benchmarks.planner.simulation import Run
from benchmarks.planner.video_size import fit_size
from benchmarks.report import machine
from export.commands import failing_in_words
from export.presets import preset_named

PICTURE = 1280, 720
"""Height and width of the picture whose shape the video takes."""


def size_within(area: str) -> str:
    """`720x400`, a budget of pixels, to the size of an upright video by the release's rule."""
    if (sides := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", area)) is None:
        raise ValueError(f"area is {area!r}, wanted two numbers of pixels such as 720x400")
    height, width = fit_size(*PICTURE, int(sides[1]) * int(sides[2]))
    return f"{height}x{width}"


def described(plan: Deployment, buffer_s: float, price: float) -> tuple[dict[str, Any], Run]:
    """Print the plan and what changes would do; its numbers, and the simulated run."""
    print("counting the work of the networks …", file=sys.stderr)
    seen = forecast(plan, buffer_s)
    found = printing.figures(plan, seen, price)
    for part in (printing.costs(plan), printing.memory(plan), printing.summary(found)):
        print(part, end="\n\n")
    rows = [("as planned", found)]
    for name, other in changes(plan, SOFTWARE).items():
        rows.append((name, printing.figures(other, forecast(other, buffer_s), price)))
    print(printing.alternatives(rows))
    return found, seen.run


def drawn(plan: Deployment, run: Run, buffer_s: float, path: Path) -> None:
    """Write the plots."""
    from benchmarks.planner.plots import draw  # takes a second to import

    counts = range(1, plan.preset.pipeline.num_steps + 2)
    rates = [(n, forecast(dataclasses.replace(plan, gpus=n), buffer_s).fps) for n in counts]
    draw(plan, run, rates, path)
    print(f"\nwrote {path}")


@failing_in_words()
def main(
    gpu: Annotated[str, typer.Option(help=f"which: {', '.join(GPUS)}")] = "H800",
    gpus: Annotated[
        int,
        typer.Option(help="of one server: one for each step and the VAE; fewer are shared"),
    ] = 5,
    area: Annotated[
        str, typer.Option(help="budget of pixels, such as 720x400; the video is upright, 9:16")
    ] = "720x400",
    precision: Annotated[str, typer.Option(help="of linear layers: bf16, fp16 or fp8")] = "bf16",
    preset: Annotated[str, typer.Option(help="an avatar's")] = "14b",
    steps: Annotated[int, typer.Option(help="denoising steps")] = 4,
    software: Annotated[
        str,
        typer.Option(help="release: as Live Avatar's own code; tuned: as the best published"),
    ] = "release",
    price: Annotated[
        float | None, typer.Option(help="dollars of a GPU and hour; else a round figure of 2026")
    ] = None,
    buffer: Annotated[
        float, typer.Option(help="seconds by which a viewer's player lets blocks be late")
    ] = 0.48,
    sessions_per_hour: Annotated[
        float | None, typer.Option(help="who comes; plans a cluster too")
    ] = None,
    session_minutes: Annotated[float, typer.Option(help="how long a session lasts, mean")] = 5.0,
    refused: Annotated[
        float, typer.Option(help="the largest share of sessions that may find no place")
    ] = 0.01,
    plot: Annotated[
        Path | None, typer.Option(help="write four plots to this file, .png or .svg")
    ] = None,
    calibration: Annotated[
        bool, typer.Option("--calibration", help="print published points beside predictions")
    ] = False,
) -> None:
    """Plan a server, or a cluster of them, for GPUs that are not here.

    Prints what a block takes, frames per second, first frame, onset,
    memory, sessions by memory and by time, what an hour of video costs,
    what is busiest, and what a change of one thing would do. Nothing of
    it is measured, and our own engines have never run on a GPU.

    Is one server enough for a talk?
    python -m benchmarks.plan --gpu H100 --gpus 5 --precision fp8

    How many for 200 talks an hour?
    python -m benchmarks.plan --precision fp8 --sessions-per-hour 200

    How far off is it?
    python -m benchmarks.plan --calibration
    """
    chosen = gpu_named(gpu)
    price = chosen.price if price is None else price
    for name, value in (("price", price), ("buffer", buffer)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}, wanted 0 or more")
    chosen.peak(precision)
    demand = sessions_per_hour and Demand(per_hour=sessions_per_hour, minutes=session_minutes)
    plan = Deployment(
        preset=preset_named(preset, size_within(area), steps),
        gpu=chosen,
        gpus=gpus,
        precision=precision,
        efficiency=software_named(software),
    )
    print(printing.head(plan))
    found, run = described(plan, buffer, price)
    report = {"benchmark": "plan", "gpu": chosen.name, "gpus": gpus, "precision": precision}
    report |= {"software": software, "commit": machine()["commit"], **found}
    if demand:
        text, sizes = printing.cluster(demand, found["sessions"], refused, price * gpus)
        print("", text, sep="\n")
        report["cluster"] = sizes
    if calibration:
        text, report["errors_left_out"] = printing.calibration()
        print("", text, sep="\n")
    if plot is not None:
        drawn(plan, run, buffer, plot)
    print(json.dumps(report))


if __name__ == "__main__":
    typer.run(main)
