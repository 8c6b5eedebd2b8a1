"""The pictures of a report, as SVG text; each may say why it has nothing to show."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from benchmarks.audit.drawing import BLUE, COLOURS, GREY, RED, bars, errors, panels, svg
from benchmarks.audit.figures import Figure
from benchmarks.audit.parts import GROWTH, SLEEPS_MS, orchestration
from benchmarks.audit.record import results
from benchmarks.soak import LIMITS
from live_avatar_client.protocol import FPS

Figures = Mapping[str, Mapping[str, Figure]]
"""By part and path; without parts that were not measured."""
SESSIONS = {"ratio": 1, "ratio_2": 2, "ratio_4": 4}
DRIVERS = {"client": "our client", "perf_analyzer": "perf_analyzer"}
TIMELINE = orchestration(50)


class NotMeasuredError(Exception):
    """Its words are the reason."""


def timeline(report: dict[str, Any], _: Figures) -> str:
    """Which model works on which block, of the pipeline of models that sleep 50 ms."""
    visits = _measured(report, TIMELINE)[-1]["timeline_ms"]
    if not visits:
        raise NotMeasuredError(f"{TIMELINE} saw no block")
    models = sorted({model for model, *_ in visits})
    figure, (axes,) = panels(1, height=3.2)
    for model, block, began, ended in visits:
        row = models.index(model)
        colour = COLOURS[block % len(COLOURS)]
        axes.broken_barh([(began, ended - began)], (row - 0.4, 0.8), color=colour, edgecolor="w")
        axes.text((began + ended) / 2, row, str(block), ha="center", va="center", color="w")
    axes.set_yticks(range(len(models)), models)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds; the number is the block")
    return svg(figure, "timeline")


def latencies(report: dict[str, Any], _: Figures) -> str:
    """Histograms of single values, of all runs."""
    wanted = {
        ("demo", "first_frame"): "first frame, warm",
        ("demo", "block_interval"): "block to next block",
        ("demo", "live_delay"): "block latency, live sound",
        ("live", "onset_ms"): "onset",
    }
    found: dict[str, list[float]] = {}
    for (part, key), title in wanted.items():
        raw = [r.get("raw_ms") or r["live"]["raw_ms"] for r in _found(report, part)]
        found[title] = [value for values in raw for value in values[key]]
    if not any(found.values()):
        raise NotMeasuredError(_reason(report, "demo"))
    figure, axes = panels(len(found), height=2.8)
    for place, (title, values) in zip(axes, found.items(), strict=True):
        if values:
            place.hist(values, bins=min(30, max(5, len(values) // 2)), color=BLUE)
            place.axvline(sorted(values)[len(values) // 2], color=RED, label="median")
            place.legend()
        else:
            place.text(0.5, 0.5, "not measured", ha="center", transform=place.transAxes)
        place.set_title(f"{title} (n = {len(values)})")
        place.set_xlabel("ms")
    return svg(figure, "latencies")


def sessions(report: dict[str, Any], figures: Figures) -> str:
    """Frames per second of all sessions together, by how many there are."""
    _measured(report, "load")
    figure, (axes,) = panels(1, height=3.2)
    most = 1
    for (key, name), colour in zip(DRIVERS.items(), COLOURS, strict=False):
        points = {
            int(path.split("/")[1]): seen
            for path, seen in figures["load"].items()
            if path.startswith(f"{key}/") and path.endswith("/frames_per_s")
        }
        errors(axes, points, name, colour)
        most = max(most, *points)
    counts = range(1, most + 1)
    needed = [FPS * n for n in counts]
    axes.plot(counts, needed, color=RED, linestyle="--", label="real time for all")
    axes.set_xticks(counts)
    axes.set_xlabel("sessions at a time")
    axes.set_ylabel("frames/s, starts inside")
    axes.set_ylim(bottom=0)
    axes.legend()
    return svg(figure, "sessions")


def memory(report: dict[str, Any], _: Figures) -> str:
    """Resident sets of a benchmark and its server while it runs; a line is a run."""
    parts = {n: p for n, p in report["parts"].items() if any(r["memory_mb"] for r in p["runs"])}
    parts = {name: part for name, part in parts.items() if not part["not_measured"]}
    if not parts:
        raise NotMeasuredError("no part was measured")
    figure, axes = panels(len(parts), height=2.2, in_a_row=4)
    for place, (name, part) in zip(axes, parts.items(), strict=True):
        for run in part["runs"]:
            place.plot(*zip(*run["memory_mb"], strict=True), color=BLUE, alpha=0.7)
        place.set_ylim(bottom=0)
        place.set_title(name)
        place.set_xlabel("s")
        place.set_ylabel("MB")
    return svg(figure, "memory")


def overhead(report: dict[str, Any], figures: Figures) -> str:
    """What the pipeline adds, by a stage's time; what a message takes, by its size."""
    parts = {ms: orchestration(ms) for ms in SLEEPS_MS if orchestration(ms) in figures}
    if not parts:
        raise NotMeasuredError(_reason(report, orchestration(SLEEPS_MS[-1])))
    figure, (left, right) = panels(2, height=3.2)
    for (key, count), colour in zip(SESSIONS.items(), COLOURS, strict=False):
        errors(left, {ms: figures[part][key] for ms, part in parts.items()}, f"{count}", colour)
    left.axhline(1, color=GREY, linestyle="--")
    left.set_xscale("log")
    left.set_xticks(list(parts), [str(ms) for ms in parts])
    left.minorticks_off()
    left.set_xlabel("a stage sleeps, ms")
    left.set_ylabel("period / slowest stage")
    left.legend(title="sessions")
    _hops(right, figures[parts[max(parts)]])
    return svg(figure, "overhead")


def _hops(axes: Axes, figures: Mapping[str, Figure]) -> None:
    sizes = list(dict.fromkeys(p.split("/")[1] for p in figures if p.startswith("hops_ms/")))
    for percentile, colour in zip(("p50", "p99"), COLOURS, strict=False):
        points = {at: figures[f"hops_ms/{size}/{percentile}"] for at, size in enumerate(sizes)}
        errors(axes, points, percentile, colour)
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlabel("a message of this size, there and back")
    axes.set_ylabel("ms")
    axes.set_ylim(bottom=0)
    axes.legend()


def workers(report: dict[str, Any], figures: Figures) -> str:
    """Speed-up over sequential, beside the ideal."""
    _measured(report, "schedules")
    found: dict[str, dict[str, dict[int, Figure]]] = {}
    for path, seen in figures["schedules"].items():
        if path.startswith("workers/") and path.endswith(("/speed_up", "/ideal")):
            _, kind, schedule, count, name = path.split("/")
            line = schedule if name == "speed_up" else f"{schedule}, ideal"
            found.setdefault(kind, {}).setdefault(line, {})[int(count)] = seen
    figure, axes = panels(len(found), height=3.6)
    for place, (kind, lines) in zip(axes, found.items(), strict=True):
        names = [line for line in lines if not line.endswith(", ideal")]
        for at, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
            ideal = "their ideal" if at == len(names) - 1 else "_"  # dotted lines share an entry
            errors(place, lines[f"{name}, ideal"], ideal, colour, style=":")
            errors(place, lines[name], name, colour)
        counts = sorted({count for line in lines.values() for count in line})
        place.set_xticks(counts)
        place.set_title(f"stations that {kind}")
        place.set_xlabel("workers")
        place.set_ylabel("speed-up")
        place.set_ylim(bottom=0)
        place.legend(ncols=3, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return svg(figure, "workers")


def peers(report: dict[str, Any], figures: Figures) -> str:
    """Milliseconds of a block; the number is how much faster ours is."""
    _measured(report, "peers")
    seen = figures["peers"]
    rows = [path.removesuffix("/ms_per_block") for path in seen if path.endswith("/ms_per_block")]
    figure, (axes,) = panels(1, height=1.2 + 0.35 * len(rows))
    for at, row in enumerate(rows):
        took, gain = seen[f"{row}/ms_per_block"], seen[f"{row}/speed_up"]
        _, workers, name, threads = row.split("/")
        bars(axes, at, took, BLUE if at == 0 else GREY)
        note, end = f"{gain.value:.2f}", (took.high or took.value, at)
        axes.annotate(note, end, (6, 0), textcoords="offset points", va="center")
        rows[at] = f"{name}, {workers} × {threads} thread{'s' * (threads != '1')}"
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlabel("ms for a block of 12 frames")
    return svg(figure, "peers")


def growth(report: dict[str, Any], figures: Figures) -> str:
    """What each process's memory grew by, in thousand blocks of two sessions together."""
    _measured(report, GROWTH)
    ends = ("/rss_mb", "/shm_mb")
    seen = {path: one for path, one in figures[GROWTH].items() if path.endswith(ends)}
    figure, (axes,) = panels(1, height=1.2 + 0.25 * len(seen))
    for at, one in enumerate(seen.values()):
        bars(axes, at, one, BLUE)
    axes.axvline(0, color=GREY)
    axes.axvline(LIMITS["rss_mb"], color=RED, linestyle="--", label="beyond noise")
    axes.set_yticks(range(len(seen)), [path.split("/")[1] for path in seen])
    axes.invert_yaxis()
    axes.set_xlabel("MB per 1,000 blocks")
    axes.legend()
    return svg(figure, GROWTH)


PLOTS: dict[str, Callable[[dict[str, Any], Figures], str]] = {
    "Who works on which block": timeline,
    "How long single blocks and answers take": latencies,
    "Frames per second against sessions": sessions,
    "Overhead against a stage's time, and messages": overhead,
    "What workers bring": workers,
    "Beside what a user would run instead": peers,
    "Memory over time": memory,
    "Growth over thousands of blocks": growth,
}


def _found(report: dict[str, Any], part: str) -> list[dict[str, Any]]:
    return results(report["parts"][part]) if part in report["parts"] else []


def _measured(report: dict[str, Any], part: str) -> Sequence[dict[str, Any]]:
    """The results of a part; NotMeasuredError if there are none."""
    if not (found := _found(report, part)):
        raise NotMeasuredError(_reason(report, part))
    return found


def _reason(report: dict[str, Any], part: str) -> str:
    if part not in report["parts"]:
        return f"{part} is not in this report"
    return f"{part}: {report['parts'][part]['not_measured']}"
