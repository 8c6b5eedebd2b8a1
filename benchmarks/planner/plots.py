"""One picture of a plan: who works when, what GPUs bring, what lies in memory, how far it errs."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.planner.deployment import Deployment
from benchmarks.planner.published import calibrating, left_out
from benchmarks.planner.simulation import Run

COLOURS = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
GREY, RED = "0.6", "tab:red"
SHOWN_BLOCKS = 9


def draw(plan: Deployment, run: Run, by_gpus: Sequence[tuple[int, float]], path: Path) -> None:
    """Write the four panels to `path`; the ending names the format. `by_gpus`: frames per second of
    a server with so many GPUs."""
    figure, axes = plt.subplots(2, 2, figsize=(15, 9), constrained_layout=True)
    _timeline(axes[0, 0], run)
    _rates(axes[0, 1], plan, by_gpus)
    _memory(axes[1, 0], plan)
    _errors(axes[1, 1])
    c = plan.preset.pipeline
    size = f"{c.height} × {c.width}"
    title = f"{plan.preset.name}, {size}, {plan.precision}, {plan.gpus} × {plan.gpu.name}"
    figure.suptitle(f"{title}: planned, not measured")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _timeline(axes: Axes, run: Run) -> None:
    """The first blocks, a row for each device; a colour is a block."""
    names: dict[int, list[str]] = {}
    for station in run.stations:
        names.setdefault(station.device, []).append(station.name)
    shown = [visit for visit in run.visits if visit.block < SHOWN_BLOCKS]
    for visit in shown:
        device = run.stations[visit.station].device
        span = (visit.began_s, visit.ended_s - visit.began_s)
        colour = COLOURS[visit.block % len(COLOURS)]
        axes.broken_barh([span], (device - 0.4, 0.8), facecolors=colour, edgecolor="white")
        middle = visit.began_s + span[1] / 2
        axes.text(middle, device, str(visit.block), ha="center", va="center", fontsize=8)
    axes.set_yticks(list(names), [f"GPU {d}: {' + '.join(n)}" for d, n in names.items()])
    axes.invert_yaxis()
    axes.set_xlabel("seconds after the first block's sound")
    axes.set_title("Who works on which block")


def _rates(axes: Axes, plan: Deployment, by_gpus: Sequence[tuple[int, float]]) -> None:
    counts, rates = zip(*by_gpus, strict=True)
    colours = [COLOURS[0] if count == plan.gpus else GREY for count in counts]
    bars = axes.bar(counts, rates, color=colours)
    axes.bar_label(bars, fmt="%.1f")
    fps = plan.preset.pipeline.fps
    axes.axhline(fps, color=RED, linestyle="--", label=f"real time, {fps}")
    axes.set_xticks(counts)
    axes.set_xlabel(f"GPUs ({plan.gpu.name})")
    axes.set_ylabel("frames per second")
    axes.legend()
    axes.set_title("What GPUs bring")


def _memory(axes: Axes, plan: Deployment) -> None:
    rows = plan.memory()
    sessions = max(min(row.sessions for row in rows), 1)
    parts = {
        "weights": [row.weights / 1e9 for row in rows],
        "scratch": [row.scratch / 1e9 for row in rows],
        "processes": [row.processes / 1e9 for row in rows],
        f"{sessions} session(s)": [sessions * row.per_session / 1e9 for row in rows],
    }
    below = [0.0] * len(rows)
    for name, sizes in parts.items():
        axes.bar(range(len(rows)), sizes, bottom=below, label=name)
        below = [low + size for low, size in zip(below, sizes, strict=True)]
    axes.axhline(plan.gpu.memory / 1e9, color=RED, linestyle="--", label=plan.gpu.name)
    axes.set_xticks(range(len(rows)), [f"GPU {row.gpu}\n{row.holds}" for row in rows], fontsize=8)
    axes.set_ylabel("GB")
    axes.legend(fontsize=8)
    axes.set_title("What lies in memory")


def _errors(axes: Axes) -> None:
    """Published points, fitted ones in grey, and the 15 % that are wanted."""
    found = [*calibrating(), *left_out()]
    rows = range(len(found))
    colours = [GREY if point.calibrates else COLOURS[0] for point in found]
    axes.barh(rows, [100 * point.error() for point in found], color=colours)
    axes.axvspan(-15, 15, color="0.92", zorder=0)
    axes.set_yticks(rows, [point.name for point in found], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("planned over published, per cent; grey: fitted")
    axes.set_title("How far off the planner is")
