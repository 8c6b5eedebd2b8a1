"""The figures of a load test as text, and docs/load-test.md, which tells how to read them."""

import re
from typing import Any

from benchmarks.report import table
from deploy.checkout import REPO

PAGE = REPO / "docs" / "load-test.md"
_COUNTS = {
    "sequences": "sessions",
    "blocks": "blocks",
    "frames": "frames",
    "wall_s": "seconds",
    "blocks_per_s": "blocks/s",
    "frames_per_s": "frames/s",
    "realtime_factor": "real-time factor",
}
_DELAYS = {
    "first_block_ms": "START → first block",
    "answer_ms": "later request → first block",
    "block_interval_ms": "block → next block",
}


def comparison(report: dict[str, Any]) -> str:
    """The Markdown table: a column per driver and number of sessions."""
    drivers = {"perf_analyzer": "perf_analyzer", "our client": "client"}
    columns = [(name, n, report[key][n]) for n in report["client"] for name, key in drivers.items()]
    rows = [[label, *(column[key] for *_, column in columns)] for key, label in _COUNTS.items()]
    for key, label in _DELAYS.items():
        delays = (_delay(column[key]) for *_, column in columns)
        rows.append([f"{label}, ms: p50 / p95 / p99 (n)", *delays])
    return table(["", *(f"{name}, {n} at a time" for name, n, _ in columns)], rows)


def page(report: dict[str, Any]) -> str:
    """The whole text of the page: what was measured is replaced, the prose stays."""
    said = "\n\n".join(
        f"{level} at a time:\n```\n{_own_table(text)}\n```"
        for level, text in report["perf_analyzer_said"].items()
    )
    text = PAGE.read_text()
    for pattern, new in (
        (r"(?<=## Where and with what\n).*?(?=\n\n## )", _where(report)),
        (r"(?<=## Side by side\n).*?(?=\n\n)", comparison(report)),
        (r"(?<=## What perf_analyzer prints itself\n).*?(?=\n\n## )", said),
    ):
        place = re.search(pattern, text, re.DOTALL)
        assert place, f"{PAGE} has no place for {pattern}"
        text = text[: place.start()] + new + text[place.end() :]
    return text


def _delay(values: dict[str, float] | None) -> str:
    if values is None:
        return "–"
    return " / ".join(f"{values[p]:.0f}" for p in ("p50", "p95", "p99")) + f" ({values['count']})"


def _own_table(text: str) -> str:
    """From "Request concurrency" to the end of the server's part."""
    lines = [line.rstrip() for line in text.splitlines()]
    begin = next(i for i, line in enumerate(lines) if line.startswith("Request concurrency"))
    end = next(i for i, line in enumerate(lines) if line.startswith("Inferences/Second vs."))
    return "\n".join(line for line in lines[begin:end] if line)


def _where(report: dict[str, Any]) -> str:
    height, width = report["picture"]
    return f"""\
- {report["cpu"]}, {report["cores"]} cores, which the server, its models and the program that \
puts the load on them share
- load average {report["load"]} before and {report["load_after"]} after the runs
- Triton {report["triton"]}, perf_analyzer {report["perf_analyzer_version"]}, Python \
{report["python"]}, commit {report["commit"]}
- preset {report["preset"]}, {width} × {height} pixels
- {report["audio_s"]:g} s of speech, {report["request_s"]:g} s in a request of perf_analyzer"""
