"""The numbers of a benchmark's runs, each with its spread."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

WHERE = ("benchmark", "cpu", "cores", "load", "load_after", "python", "commit", "triton")
ASKED = ("perf_analyzer_version", "preset", "picture", "audio_s", "request_s", "rounds", "seconds")
COUNTED = ("bursts", "sequences", "blocks", "frames", "wall_s", "count", "reloads")
LIMITED = ("limits", "gpus")
RAW = ("raw_ms", "timeline_ms")
SETTINGS = frozenset((*WHERE, *ASKED, *COUNTED, *LIMITED, *RAW))
"""Keys of what was asked for, or where, or of raw values: no figures."""
LABELS = ("schedule", "workers", "peer", "threads")
"""Keys that tell the rows of a list apart."""
_HIGHER_IS_BETTER = ("fps", "per_s", "realtime_factor", "speed_up", "gflop_per_cpu_s")
_UNJUDGED = ("ideal", "gflop_per_block", "av_offset_ms", "av_drift_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The median of so many runs; `low` and `high` of all of them, and of what a run itself said of
    its spread. Both None: it was measured once."""

    value: float
    low: float | None
    high: float | None
    runs: int

    def text(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.5g}"
        return f"{self.value:.5g} ({self.low:.5g} – {self.high:.5g})"


def figures(results: Sequence[dict[str, Any]]) -> dict[str, Figure]:
    """By path, such as `client/2/frames_per_s`; of the runs of one benchmark."""
    runs = [dict(_leaves(result, ())) for result in results]
    found = {}
    for path in runs[0] if runs else ():
        seen = [run[path] for run in runs if path in run]
        low, high = min(low for _, low, _ in seen), max(high for *_, high in seen)
        is_known = low < high or len(seen) > 1
        found[path] = Figure(
            value=statistics.median(value for value, *_ in seen),
            low=low if is_known else None,
            high=high if is_known else None,
            runs=len(seen),
        )
    return found


def better(path: str, change: float) -> str:
    """The word for a change upwards (above 0) or downwards."""
    parts = [part for part in path.split("/") if part not in ("p50", "p95", "p99")]
    name = parts[-1]
    if name.endswith(_UNJUDGED):
        return "moved"
    return "better" if (change > 0) == name.endswith(_HIGHER_IS_BETTER) else "worse"


Leaf = tuple[str, tuple[float, float, float]]


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[Leaf]:
    """Path and (value, low, high) of every figure below a node."""
    if isinstance(node, list):
        for row in node:
            if isinstance(row, dict):
                labels = [str(row[key]) for key in LABELS if key in row]
                rest = {key: value for key, value in row.items() if key not in LABELS}
                yield from _leaves(rest, (*path, *labels))
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in SETTINGS or key.endswith(("_spread", "_low", "_high")):
                continue
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield "/".join((*path, key)), _with_spread(node, key, float(value))
            else:
                yield from _leaves(value, (*path, key))


def _with_spread(node: dict[str, Any], key: str, value: float) -> tuple[float, float, float]:
    """By the two ways in which our benchmarks write one; without one, the value three times."""
    low, high = node.get(f"{key}_spread", (None, None))
    low, high = node.get(f"{key}_low", low), node.get(f"{key}_high", high)
    return (value, value, value) if low is None or high is None else (value, low, high)
