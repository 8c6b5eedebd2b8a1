"""What a load test counts, its figures as text, and docs/load-test.md, which explains them."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import percentiles, table
from deploy.checkout import REPO
from live_avatar_client.protocol import FPS

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One session from START to its last block; seconds on any one clock of its run."""

    started_s: float
    blocks_s: Sequence[float]  # arrival of every block, in order
    num_frames: int
    answers_s: Sequence[float] = ()
    """Per request after START, where the client knows it: from sending to its first block."""


def figures(tracks: Sequence[Track], num_sessions: int) -> dict[str, Any]:
    """Throughput of all sessions together, from the first START to the last block; delays in ms.

    `realtime_factor` is per session: 1 is as fast as its viewer looks. Percentiles are None where
    nothing was seen. ValueError when no block arrived.
    """
    seen = [track for track in tracks if track.blocks_s]
    if not seen:
        raise ValueError("not one block arrived, so there is nothing to count")
    blocks = sum(len(track.blocks_s) for track in tracks)
    frames = sum(track.num_frames for track in tracks)
    wall_s = max(track.blocks_s[-1] for track in seen) - min(track.started_s for track in tracks)
    intervals_s = [b - a for track in tracks for a, b in itertools.pairwise(track.blocks_s)]
    return {
        "sequences": len(tracks),
        "blocks": blocks,
        "frames": frames,
        "wall_s": round(wall_s, 2),
        "blocks_per_s": round(blocks / wall_s, 3),
        "frames_per_s": round(frames / wall_s, 2),
        "realtime_factor": round(frames / wall_s / FPS / num_sessions, 3),
        "first_block_ms": _milliseconds([t.blocks_s[0] - t.started_s for t in seen]),
        "answer_ms": _milliseconds([value for track in tracks for value in track.answers_s]),
        "block_interval_ms": _milliseconds(intervals_s),
    }


def _milliseconds(seconds: Sequence[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    return {"count": len(seconds), **percentiles([1e3 * value for value in seconds])}


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
