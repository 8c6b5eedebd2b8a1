"""How fast is the whole path, from the client's audio to the client's frames?

The demo preset behind the real server on this machine, over gRPC: time to the first frame of a
cold session (image, prompt and audio sent at once), then frames per second with audio sent as fast
as the server takes it, then lateness with audio paced as a microphone paces it.

    python -m benchmarks.bench_demo

The last line is one JSON object with ttff_ms, fps, realtime_factor, peak_rss_mb among others.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.report import machine, percentiles, table
from deploy.server.local import LocalServer
from live_avatar_client import Session, read_audio
from live_avatar_client.protocol import FPS, SAMPLE_RATE, Block
from pipeline.engines.base import Array


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


def peak_megabytes(server: LocalServer) -> float:
    """Peak resident sets of all its processes: an upper bound, shared pages are counted often."""
    peak = 0
    for pid in (server.pid, *server.stub_pids()):
        status = dict(x.split(":", 1) for x in Path(f"/proc/{pid}/status").read_text().splitlines())
        peak += int(status["VmHWM"].split()[0])
    return peak / 1024


def main(
    repository: Path = Path("build/model_repository"),
    image: Path = Path("examples/portrait.png"),
    audio: Path = Path("examples/speech.flac"),
    seconds: Annotated[float, typer.Option(help="audio of the main run")] = 30.0,
    rounds: Annotated[int, typer.Option(help="cold sessions for ttff")] = 5,
) -> None:
    """How fast is the whole path, from the client's audio to the client's frames?"""
    sound = np.concatenate(list(read_audio(audio)))
    with LocalServer(repository, log_dir=Path("build/bench_demo_log")) as server:
        print("warming up …", file=sys.stderr)
        run(server.grpc_url, image, looped(sound, 2))
        ttff = []
        for _ in range(rounds):
            began, blocks = run(server.grpc_url, image, looped(sound, 1))
            ttff.append(1e3 * (blocks[0].received_s - began))
        print(f"{seconds:g} s as fast as it goes …", file=sys.stderr)
        began, blocks = run(server.grpc_url, image, looped(sound, seconds))
        frames = sum(len(b.frames) for b in blocks[1:])
        fps = frames / (blocks[-1].received_s - blocks[0].received_s)
        intervals = 1e3 * np.diff([b.received_s for b in blocks])
        print("10 s paced like a microphone …", file=sys.stderr)
        start = time.perf_counter()
        _, live = run(server.grpc_url, image, paced(looped(sound, 10), start))
        late = lateness_ms(start, live)
        memory = peak_megabytes(server)
    report: dict[str, Any] = {
        "benchmark": "demo",
        **machine(),
        "ttff_ms": round(float(np.median(ttff)), 1),
        "ttff_ms_spread": [round(min(ttff), 1), round(max(ttff), 1)],
        "fps": round(fps, 2),
        "realtime_factor": round(fps / FPS, 3),
        "block_interval_ms": percentiles(list(intervals)),
        "live_delay_ms": percentiles(late[2:]),
        "peak_rss_mb": round(memory, 1),
        "picture": list(blocks[0].frames.shape[1:3]),
        "stage_ms": {
            name: round(float(np.median([b.timings_ms[name] for b in blocks])), 1)
            for name in blocks[-1].timings_ms
        },
    }
    rows = [[key, report[key]] for key in ("ttff_ms", "fps", "realtime_factor", "peak_rss_mb")]
    for key in ("block_interval_ms", "live_delay_ms"):
        rows.append([f"{key} p50 / p99", f"{report[key]['p50']} / {report[key]['p99']}"])
    print(table(["figure", "value"], rows))
    print(json.dumps(report))


if __name__ == "__main__":
    typer.run(main)
