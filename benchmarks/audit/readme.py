"""README's figures: a table between two markers, of one report that lies in the repository.

The first marker names the report's file, so that the two can be compared ever after.
"""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.audit.figures import Figure, figures
from benchmarks.audit.parts import orchestration
from benchmarks.audit.record import TRITON, load, results
from deploy.checkout import REPO

README = REPO / "README.md"
NO_REPORT = "No report is in the repository yet.\n"
_BLOCK = re.compile(
    r"<!-- figures(?: of (?P<path>\S+))? -->\n(?P<text>.*?)<!-- /figures -->", re.DOTALL
)
_UNMARKED = "has no markers <!-- figures --> and <!-- /figures -->"
_LONGEST = 80  # of a reason, in characters

HOP = "hops_ms/600 kB/p50"
ROWS = (
    (
        "first frame after START with picture, prompt and audio, warm server",
        "demo",
        "ttff_ms",
        "ms",
    ),
    ("frames per second, one session", "demo", "fps", ""),
    ("the same, times real time", "demo", "realtime_factor", ""),
    ("delay of a block behind its last sample, live audio, p50", "demo", "live_delay_ms/p50", "ms"),
    ("the same, p99", "demo", "live_delay_ms/p99", "ms"),
    ("CPU time of a block of 12 frames, all processes", "demo", "cpu_ms_per_block", "ms"),
    ("memory of the server and its model processes, sum of peaks", "demo", "peak_rss_mb", "MB"),
    ("a mouth opens after speech came, live session, p50", "live", "live/onset_ms/p50", "ms"),
    ("the same, p95", "live", "live/onset_ms/p95", "ms"),
    ("a mouth closes after an interruption, p50", "live", "live/closed_ms/p50", "ms"),
    ("two sessions at once, times real time of each", "load", "client/2/realtime_factor", ""),
    ("period of the pipeline over its slowest stage", orchestration(50), "ratio", ""),
    ("the same, 4 sessions", orchestration(50), "ratio_4", ""),
    ("message of 600 kB to another model and back, p50", orchestration(50), HOP, "ms"),
    ("frames per second of denoising on one core: rolling", "schedules", "rolling_forcing/fps", ""),
    ("the same, Self-Forcing", "schedules", "self_forcing/fps", ""),
    ("the same, timestep forcing", "schedules", "timestep_forcing/fps", ""),
)
"""What the table says: words, part and path of the figure, unit."""


def block(report: dict[str, Any], path: str) -> str:
    """The text between the markers; `path` is that of the report, from the repository's root."""
    machine, versions, preset = report["machine"], report["versions"], report["preset"]
    runs = sorted({len(part["runs"]) for part in report["parts"].values() if part["runs"]})
    told = f"{' or '.join(map(str, runs)) or 'no'} run{'' if runs == [1] else 's'}"
    small = " **Small sizes: they show that everything runs, and are not to be quoted.**"
    lines = [
        f"[The report]({path}) of {report['date']}, commit {report['commit']}: {machine['cpu']}, "
        f"{machine['cores']} cores, load {machine['load']} at its start; Python "
        f"{versions['python']}, {TRITON} {versions[TRITON]}.",
        f"The `{preset['preset']}` preset at {preset['height']}×{preset['width']}. Medians of "
        f"{told}; in brackets the lowest and the highest."
        + ("" if report["sizes"] == "full" else small),
        "",
        "| what | |",
        "|---|---|",
    ]
    found = {name: figures(results(part)) for name, part in report["parts"].items()}
    for words, name, key, unit in ROWS:
        figure = found.get(name, {}).get(key)
        said = _text(figure, unit) if figure else f"not measured: {_reason(report, name)}"
        lines.append(f"| {words} | {said} |")
    return "\n".join(lines) + "\n"


def write(readme: Path, report: dict[str, Any], path: Path) -> None:
    """Put the figures of a report into README. ValueError if README has no markers, or the report
    does not lie in README's folder."""
    text, root = readme.read_text(), readme.parent.resolve()
    if not (found := _BLOCK.search(text)):
        raise ValueError(f"{readme} {_UNMARKED}")
    if not path.resolve().is_relative_to(root):
        raise ValueError(f"{path} is not in {root}, where README's readers would find it")
    name = path.resolve().relative_to(root).as_posix()
    new = f"<!-- figures of {name} -->\n{block(report, name)}<!-- /figures -->"
    readme.write_text(text[: found.start()] + new + text[found.end() :])


def disagreement(readme: Path) -> str:
    """What is wrong with README's figures; empty where they are those of the report that it names,
    or where it names none and says so."""
    if not (found := _BLOCK.search(readme.read_text())):
        return f"{readme} {_UNMARKED}"
    if (name := found["path"]) is None:
        return "" if found["text"] == NO_REPORT else f"{readme} has figures of no report"
    if not (readme.parent / name).is_file():
        return f"{readme} has the figures of {name}, which is not there"
    if found["text"] == block(load(readme.parent / name), name):
        return ""
    return f"{readme} and {name} differ: python -m benchmarks.audit --page-of {name} --readme"


def _text(figure: Figure, unit: str) -> str:
    after = f" {unit}" if unit else ""
    if figure.low is None or figure.high is None:
        return f"{_number(figure.value)}{after} (measured once)"
    low, high = _number(figure.low), _number(figure.high)
    return f"{_number(figure.value)}{after} ({low} to {high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _reason(report: Mapping[str, Any], name: str) -> str:
    """Of a part or figure that is missing, fit for a cell."""
    part = report["parts"].get(name)
    reason = "the report has no such part" if part is None else part["not_measured"]
    line = " ".join(escape(reason or "no run has it").replace("|", "&#124;").split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
