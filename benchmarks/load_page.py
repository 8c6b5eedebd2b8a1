"""docs/load-test.md: the figures of a load test, and how to read them."""

from __future__ import annotations

from typing import Any

from benchmarks.report import table

_DELAYS = {
    "first_block_ms": "START → first block",
    "answer_ms": "later request → first block",
    "block_interval_ms": "block → next block",
}

_PAGE = """\
# Load test

Two programs drive `live_avatar` over streaming gRPC with the same picture and the same speech of
{audio_s:g} s, with one session and with two at a time: NVIDIA's perf_analyzer and our own client.
`make load-test` does it again; `python -m benchmarks.load_test --write-docs` writes this page too.

## Where and with what
{where}

## Side by side
{comparison}

(n) is the number of values behind the three percentiles. Throughput counts all sessions together,
from the first START to the last block: the start of a session, when picture and prompt are encoded
and every stage is filled, is inside. The real-time factor is per session: 1 is as fast as its
viewer looks, 25 frames per second.

## What perf_analyzer prints itself
{said}

## How to read it
- **The two send differently.** perf_analyzer waits for the final response of a request before it
  sends the next one, so between requests of {request_s:g} s of audio the stages run empty and fill
  again; its longest intervals between blocks are those gaps. Our client keeps up to 4 s of audio
  unanswered, as a live session does, and the stages stay full. perf_analyzer's START carries
  the first audio; our client sends START first and the audio right behind it.
- **perf_analyzer's latency is one number per request.** It says that it takes the first response of
  a decoupled model, but its export shows that the figure is the time of the last response that
  holds tensors: until the whole request is answered. The table of both takes the time of every
  response from that export (`--profile-export-file`).
- Two sessions share every stage. A block waits for the other session's blocks that are under way,
  and our client keeps more of them under way, so its first block comes later.
- perf_analyzer asks for every output and so receives each block's latent too; our client doesn't.
- The sequences are data: a list of steps per session, each with its inputs by name. perf_analyzer
  sends just those, which is how the picture goes out in START alone. It adds the flags START and
  END itself, and ends a session that it leaves early.
- An error of the server makes perf_analyzer stop, and the load test fails with its words.
"""


def comparison(report: dict[str, Any]) -> str:
    """The Markdown table: a column per driver and number of sessions."""
    columns = [
        (name, level, figures)
        for level in report["client"]
        for name, figures in (
            ("perf_analyzer", report["perf_analyzer"][level]),
            ("our client", report["client"][level]),
        )
    ]
    head = ["", *(f"{name}, {level} at a time" for name, level, _ in columns)]
    rows = [
        [label, *(figures[key] for _, _, figures in columns)]
        for key, label in (
            ("sequences", "sessions"),
            ("blocks", "blocks"),
            ("frames", "frames"),
            ("wall_s", "seconds"),
            ("blocks_per_s", "blocks/s"),
            ("frames_per_s", "frames/s"),
            ("realtime_factor", "real-time factor"),
        )
    ]
    for key, label in _DELAYS.items():
        rows.append(
            [
                f"{label}, ms: p50 / p95 / p99 (n)",
                *(_delay(figures[key]) for *_, figures in columns),
            ]
        )
    return table(head, rows)


def page(report: dict[str, Any]) -> str:
    """The whole text of the page."""
    said = "\n\n".join(
        f"{level} at a time:\n```\n{_own_table(text)}\n```"
        for level, text in report["perf_analyzer_said"].items()
    )
    return _PAGE.format(
        audio_s=report["audio_s"],
        request_s=report["request_s"],
        where=_where(report),
        comparison=comparison(report),
        said=said,
    )


def _delay(values: dict[str, float] | None) -> str:
    if values is None:
        return "–"
    return (
        " / ".join(f"{values[key]:.0f}" for key in ("p50", "p95", "p99")) + f" ({values['count']})"
    )


def _own_table(text: str) -> str:
    """From "Request concurrency" to the end of the server's part."""
    lines = [line.rstrip() for line in text.splitlines()]
    begin = next(i for i, line in enumerate(lines) if line.startswith("Request concurrency"))
    end = next(i for i, line in enumerate(lines) if line.startswith("Inferences/Second vs."))
    return "\n".join(line for line in lines[begin:end] if line)


def _where(report: dict[str, Any]) -> str:
    height, width = report["picture"]
    return "\n".join(
        f"- {line}"
        for line in (
            f"{report['cpu']}, {report['cores']} cores, which the server, its models and the "
            "program that puts the load on them share",
            f"load average {report['load']} before and {report['load_after']} after the runs",
            f"Triton {report['triton']}, perf_analyzer {report['perf_analyzer_version']}, Python "
            f"{report['python']}, commit {report['commit']}",
            f"preset {report['preset']}, {width} × {height} pixels",
        )
    )
