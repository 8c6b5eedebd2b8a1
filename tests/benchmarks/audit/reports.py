"""A report as a measurement would write it, with made-up figures."""

from typing import Any

from benchmarks.audit.parts import PARTS, Part
from benchmarks.audit.record import FORMAT, TRITON, part_record
from benchmarks.audit.running import Run

LEVEL = {"frames_per_s": 80.0, "realtime_factor": 3.2, "frames": 240}
STREAMS = ("rolling_forcing", "self_forcing", "timestep_forcing")
RAW = {"first_frame": [280.0, 290.0], "block_interval": [130.0] * 9, "live_delay": [380.0] * 8}
PERCENTILES = {"p50": 1.0, "p95": 2.0, "p99": 3.0}


def _workers(kind: str) -> list[dict[str, Any]]:
    names = [("sequential", 1), *((n, w) for n in ("lockstep", "forcing") for w in (1, 2, 5))]
    return [
        {"schedule": name, "workers": count, "ms_per_block": 100.0, "ms_per_block_low": 99.0,
         "ms_per_block_high": 101.0, "speed_up": 1.8, "ideal": 2.0, "kind": kind}
        for name, count in names
    ]  # fmt: skip


def _peers() -> list[dict[str, Any]]:
    gain = {"speed_up": 1.6, "speed_up_low": 1.5, "speed_up_high": 1.7}
    return [
        {"peer": name, "threads": threads, "workers": workers, "not_measured": "",
         "ms_per_block": 100.0, **gain}
        for name, threads, workers in (("timestep forcing", 1, 5), ("PyTorch eager", 2, 1))
    ]  # fmt: skip


def result(name: str, scale: float = 1.0) -> dict[str, Any]:
    """The last line of a part; `scale` makes it slower."""
    if name.startswith("orchestration"):
        ratios = {"ratio": 1.02 * scale, "ratio_2": 1.01, "ratio_4": 1.01}
        timeline = [[m, b, 50.0 * (b + r), 50.0 * (b + r) + 49] for r, m in
                    enumerate(("dit_stage_0", "vae_decoder")) for b in range(12, 15)]  # fmt: skip
        return ratios | {
            "ratio_spread": [1.01 * scale, 1.03 * scale],
            "hops_ms": {"4 kB": PERCENTILES, "600 kB": PERCENTILES},
            "timeline_ms": timeline,
        }
    return {
        "demo": {
            "fps": 90.0 / scale,
            "ttff_ms": 280.0 * scale,
            "raw_ms": RAW,
            "picture": [96, 96],
            "realtime_factor": 3.6,
            "live_delay_ms": PERCENTILES,
            "cpu_ms_per_block": 250.0,
            "peak_rss_mb": 900.0,
        },
        "schedules": {name: {"fps": 150.0} for name in STREAMS}
        | {"workers": {kind: _workers(kind) for kind in ("compute", "sleep")}},
        "peers": {"limits": {"frame_difference": 1}, "peers": _peers()},
        "live": {
            "first_frame_cold_ms": 900.0,
            "live": {
                "onset_ms": PERCENTILES,
                "closed_ms": PERCENTILES,
                "raw_ms": {"onset_ms": [200.0, 240.0]},
            },
        },
        "load": {"client": {"1": LEVEL, "2": LEVEL}, "perf_analyzer": {"1": LEVEL, "2": LEVEL}},
        "audio_context": {"error_1_0": 0.01},
        "growth": {
            "blocks": 20_000,
            "slopes": {
                "dit_stage_0": {"rss_mb": 0.1, "fds": 0.0},
                "shared memory": {"shm_mb": 0.0},
            },
        },
    }[name]


def _run(part: Part, scale: float, reason: str) -> Run:
    said = None if reason else {"cpu": "A", "load": 1.0, **result(part.name, scale)}
    return Run(seconds=3.0, result=said, reason=reason, memory_mb=[(0.0, 90.0), (1.0, 300.0)])


def report(
    scales: tuple[float, ...] = (1.0, 1.01, 0.99), failed: dict[str, str] | None = None
) -> dict[str, Any]:
    """A run of every part for each of `scales`. `failed`: reasons by part."""
    reasons = failed or {}
    parts = {
        part.name: part_record(
            part, False, [_run(part, scale, reasons.get(part.name, "")) for scale in scales]
        )
        for part in PARTS
    }
    return {
        "report": FORMAT,
        "date": "2026-11-29",
        "commit": "1234567",
        "sizes": "full",
        "machine": {"cpu": "A", "cores": 2, "load": 1.0},
        "versions": {"python": "3.11.7", TRITON: "0.6.0", "numpy": "2.0"},
        "preset": {"preset": "demo", "height": 96, "width": 96},
        "artifacts": {"dit_stage_0/dit_step.onnx": "ab" * 32},
        "parts": parts,
    }
