"""What does the pipeline cost besides the models?

Five stages that sleep 50 ms each, in processes of their own, behind the real server, the real
orchestrator and the real client; latents of 600 kB. In the ideal the steady period of blocks is the
slowest stage's time, whatever the number of stages and sessions. That is measured, too: who asks
for 50 ms of sleep sleeps a little longer.

    python -m benchmarks.bench_orchestration

The last line is one JSON object: ratio, ratio_2, ratio_4 = period of all blocks / slowest stage
with 1, 2, 4 sessions; hops = round trip of one message by payload; timeline = which model slept on
which block of the first session, from when to when.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import tritonclient.grpc as grpc
import typer

from benchmarks import sleeping_repository
from benchmarks.report import machine, percentiles, table
from deploy.server.health import CHANNEL_ARGS
from deploy.server.local import LocalServer
from live_avatar_client import Session
from pipeline.engines.base import Array

CONFIG = sleeping_repository.CONFIG
WARMUP_BLOCKS = 12
SHOWN = range(WARMUP_BLOCKS, WARMUP_BLOCKS + 9)


def feed(url: str, num_blocks: int) -> list[float]:
    """Stream one session of silent features; the arrival time of every block."""
    image = np.zeros((CONFIG.height, CONFIG.width, 3), np.uint8)
    frames = num_blocks * CONFIG.video_frames_per_block
    features = np.zeros((1, CONFIG.audio_layers, CONFIG.audio_dim, frames), np.float32)
    with Session(url=url, image=image, idle=False) as session:
        session.send(audio_features=features)
        session.finish()
        return [block.received_s for block in session]


def period(url: str, num_sessions: int, num_blocks: int) -> Array:
    """Intervals (s) between consecutive blocks of all sessions together while all of them run."""
    with ThreadPoolExecutor(num_sessions) as pool:
        arrivals = list(pool.map(lambda _: feed(url, num_blocks), range(num_sessions)))
    assert all(len(times) == num_blocks for times in arrivals)
    begin = max(times[WARMUP_BLOCKS // num_sessions] for times in arrivals)
    end = min(times[-1] for times in arrivals)
    steady = np.sort(np.concatenate([np.array(t) for t in arrivals]))
    return np.diff(steady[(steady >= begin) & (steady <= end)])


def hops(url: str) -> dict[str, dict[str, float]]:
    """Round trips between two models that do nothing, by payload (BLS, as between the stages)."""
    client = grpc.InferenceServerClient(url, channel_args=CHANNEL_ARGS)
    result = {}
    for kilobytes in (4, 600, 6000):
        latent = np.zeros((1, 16, 1, 1, kilobytes * 1000 // 64), np.float32)
        tensor = grpc.InferInput("latent", latent.shape, "FP32")
        tensor.set_data_from_numpy(latent)
        times = client.infer("hop", [tensor]).as_numpy("times_ms")
        result[f"{kilobytes} kB"] = percentiles(times[len(times) // 5 :])
    client.close()
    return result


def main(
    blocks: Annotated[int, typer.Option(help="blocks per session")] = 150,
    sleep_ms: Annotated[float, typer.Option(help="what a stage sleeps")] = 50.0,
) -> None:
    """What does the pipeline cost besides the models?"""
    folder = Path("build/bench_orchestration")
    sleeping_repository.build(folder, sleep_ms / 1e3)
    sleeping_repository.add_hop(folder, rounds=250)
    report: dict[str, object] = {"benchmark": "orchestration", **machine()}
    rows = []
    with LocalServer(folder, log_dir=folder.with_name("bench_orchestration_log")) as server:
        for sessions in (1, 2, 4):
            print(f"{sessions} session(s), {blocks} blocks each …", file=sys.stderr)
            intervals = 1e3 * period(server.grpc_url, sessions, blocks)
            # The mean is the throughput; its spread is over tenths of the run.
            tenths = [float(part.mean()) for part in np.array_split(intervals, 10)]
            slowest_ms = sleeping_repository.slowest_ms(folder)
            ratio = float(intervals.mean()) / slowest_ms
            key = "ratio" if sessions == 1 else f"ratio_{sessions}"
            report[key] = round(ratio, 4)
            report[f"{key}_spread"] = [round(f(tenths) / slowest_ms, 4) for f in (min, max)]
            spread = f"{min(tenths):.2f}-{max(tenths):.2f}"
            rows.append([sessions, f"{intervals.mean():.2f}", f"{ratio:.3f}", spread])
        report["hops_ms"] = hop_ms = hops(server.grpc_url)
        report["timeline_ms"] = sleeping_repository.visits(folder, SHOWN)
    print(table(["sessions", "period ms", "ratio", "tenths of the run, ms"], rows))
    hop_rows = [[payload, t["p50"], t["p99"]] for payload, t in hop_ms.items()]
    print(table(["payload", "hop p50 ms", "p99"], hop_rows))
    print(json.dumps(report))


if __name__ == "__main__":
    typer.run(main)
