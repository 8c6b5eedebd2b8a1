"""How fast is the whole path, from the client's audio to the client's frames?

The demo preset behind the real server on this machine, over gRPC: time to the first frame of a
new session on a warm server (image, prompt and audio sent at once), then frames per second with
audio sent as fast as the server takes it, then lateness with audio paced as a microphone paces it.

    python -m benchmarks.bench_demo
    python -m benchmarks.bench_demo --against OTHER --rounds 7

With the repository of another commit (it has its own code in it) both are served in turns. The last
line is one JSON object: the figures, medians of all rounds, and beside another repository its
figures and the ratios ours / its.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.report import machine, percentiles, table
from deploy.server.local import LocalServer
from export.commands import failing_in_words
from live_avatar_client import AvatarError, Session, read_audio
from live_avatar_client.protocol import FPS, SAMPLE_RATE, Block
from pipeline.engines.base import Array

NEW_SESSIONS, LIVE_S = 5, 10.0
FIGURES = ("ttff_ms", "fps", "cpu_ms_per_block", "peak_rss_mb")
OF_THE_LAST = ("block_interval_ms", "live_delay_ms", "picture", "stage_ms", "raw_ms")
"""What the report has of the last round alone."""


def looped(audio: Array, seconds: float, chunk_s: float = 0.1) -> Iterator[Array]:
    """`seconds` of audio in chunks, the recording repeated as often as needed."""
    chunk = int(chunk_s * SAMPLE_RATE)
    total = int(seconds * SAMPLE_RATE)
    for start in range(0, total, chunk):
        yield audio.take(range(start, min(start + chunk, total)), mode="wrap")


def paced(chunks: Iterator[Array], began: float) -> Iterator[Array]:
    """Each chunk when its last sample would have been spoken."""
    sent = 0
    for chunk in chunks:
        sent += len(chunk)
        time.sleep(max(0.0, began + sent / SAMPLE_RATE - time.perf_counter()))
        yield chunk


def run(url: str, image: Path, chunks: Iterator[Array]) -> tuple[float, list[Block]]:
    """One session; its start time and its blocks."""
    began = time.perf_counter()
    prompt = "a person talks to the camera"
    with Session(url=url, image=image, prompt=prompt, idle=False) as session:
        return began, list(session.stream(chunks))


def lateness_ms(began: float, blocks: list[Block]) -> list[float]:
    """Per block: arrival after the moment its last sample was spoken."""
    spoken = [(block.frame_index + len(block.frames)) / FPS for block in blocks]
    return [1e3 * (b.received_s - began - s) for b, s in zip(blocks, spoken, strict=True)]


def processes(server: LocalServer) -> list[Path]:
    return [Path(f"/proc/{pid}") for pid in (server.pid, *server.stub_pids())]


def peak_megabytes(server: LocalServer) -> float:
    """Peak resident sets of all its processes: an upper bound, shared pages are counted often."""
    peak = 0
    for process in processes(server):
        lines = (process / "status").read_text().splitlines()
        peak += int(next(x for x in lines if x.startswith("VmHWM")).split()[1])
    return peak / 1024


def cpu_ms(server: LocalServer) -> float:
    """What all its processes have used of the cores so far."""
    fields = [(each / "stat").read_text().rpartition(")")[2].split() for each in processes(server)]
    ticks = sum(int(each[11]) + int(each[12]) for each in fields)
    return 1e3 * ticks / os.sysconf("SC_CLK_TCK")


def measure(repository: Path, image: Path, audio: Array, seconds: float) -> dict[str, Any]:
    """The figures of one server's life."""
    with LocalServer(repository, log_dir=Path("build/bench_demo_log")) as server:
        run(server.grpc_url, image, looped(audio, 2))
        ttff = []
        for _ in range(NEW_SESSIONS):
            began, blocks = run(server.grpc_url, image, looped(audio, 1))
            ttff.append(1e3 * (blocks[0].received_s - began))
        used = cpu_ms(server)
        began, blocks = run(server.grpc_url, image, looped(audio, seconds))
        used = cpu_ms(server) - used
        frames = sum(len(b.frames) for b in blocks[1:])
        start = time.perf_counter()
        _, live = run(server.grpc_url, image, paced(looped(audio, LIVE_S), start))
        memory = peak_megabytes(server)
    intervals = list(1e3 * np.diff([b.received_s for b in blocks]))
    delays = lateness_ms(start, live)[2:]
    raw = {"first_frame": ttff, "block_interval": intervals, "live_delay": delays}
    return {
        "ttff_ms": float(np.median(ttff)),
        "fps": frames / (blocks[-1].received_s - blocks[0].received_s),
        "cpu_ms_per_block": used / len(blocks),
        "peak_rss_mb": memory,
        "block_interval_ms": percentiles(intervals),
        "live_delay_ms": percentiles(delays),
        "raw_ms": {name: [round(float(v), 1) for v in values] for name, values in raw.items()},
        "picture": list(blocks[0].frames.shape[1:3]),
        "stage_ms": {
            name: round(float(np.median([b.timings_ms[name] for b in blocks])), 1)
            for name in blocks[-1].timings_ms
        },
    }


@failing_in_words(RuntimeError, AvatarError)
def main(
    repository: Path = Path("build/model_repository"),
    against: Annotated[Path | None, typer.Option(help="to be served in turns with it")] = None,
    image: Path = Path("examples/portrait.png"),
    audio: Path = Path("examples/speech.flac"),
    seconds: Annotated[float, typer.Option(min=2, help="audio of the main run")] = 30.0,
    rounds: Annotated[int, typer.Option(min=1, help="lives of each server")] = 1,
) -> None:
    """How fast is the whole path, from the client's audio to the client's frames?"""
    sound = np.concatenate(list(read_audio(audio)))
    served = {"ours": repository} | ({"against": against} if against else {})
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in served}
    for number in range(rounds):
        for name, folder in served.items():
            one = measure(folder, image, sound, seconds)
            found[name].append(one)
            shown = ", ".join(f"{figure} {one[figure]:.1f}" for figure in FIGURES)
            print(f"round {number + 1}, {name}: {shown}", file=sys.stderr)
    last = found["ours"][-1]
    report = {"benchmark": "demo", **machine(), "rounds": rounds, **_summary(found["ours"])}
    report |= {"realtime_factor": round(report["fps"] / FPS, 3)}
    report |= {n: last[n] for n in OF_THE_LAST}
    if against:
        other = report["against"] = _summary(found["against"])
        report["ratios"] = {n: round(report[n] / other[n], 3) for n in FIGURES}
    rows = [[name, report[name], report[f"{name}_spread"]] for name in FIGURES]
    rows += [[f"{n} p50", last[n]["p50"], ""] for n in ("block_interval_ms", "live_delay_ms")]
    print(table(["figure", "median", "spread"], rows))
    print(json.dumps(report))


def _summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Median of each figure over the rounds, and smallest and largest."""
    found: dict[str, Any] = {}
    for name in FIGURES:
        values = [each[name] for each in rounds]
        found[name] = round(float(np.median(values)), 2)
        found[f"{name}_spread"] = [round(min(values), 2), round(max(values), 2)]
    return found


if __name__ == "__main__":
    typer.run(main)
