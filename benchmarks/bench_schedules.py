"""What does a schedule cost on one device?

The same transformer size (6 layers of width 128, 192 tokens per block) under three schedules, one
after the other on one core: Rolling Forcing's joint window, Self-Forcing's block after block with a
clean pass, and Live Avatar's timestep forcing, whose four steps are folded onto the one device
(its own network also sees audio). Weights do not matter to the clock.

    python -m benchmarks.bench_schedules

Frames per second are those of denoising alone, in the steady state: the decoder costs all of them
the same. Time to the first frame is from the open session to the first decoded block. Work is
counted from shapes: linear layers and attention of the passes that the plan names. The last line is
one JSON object: per schedule fps, ttff_ms, cpu_ms_per_block, gflop_per_block, gflop_per_cpu_s.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from benchmarks.report import machine, table
from pipeline.config import PipelineConfig
from pipeline.decoder import Decoder
from pipeline.noise import block_noise
from pipeline.rolling_config import RollingConfig
from pipeline.rolling_decoder import RollingDecoder
from pipeline.rolling_plan import Pass, RollingPlan
from pipeline.stage import Stage
from pipeline.window_device import WindowDevice

ROLLING, AVATAR = Path("artifacts/rolling-demo"), Path("artifacts/demo")
FFN_RATIO = 4
STEADY = 12
"""Blocks until every cache is full."""


def pass_flops(
    config: RollingConfig | PipelineConfig, queries: int, keys: int, *, stores: bool = False
) -> float:
    """Multiplications and additions of one pass over all layers; one that `stores` ends at the last
    layer's K and V."""
    width = config.num_heads * config.head_dim
    linear = 2 * queries * width**2 * (4 + 2 + 2 * FFN_RATIO)  # self, cross, feed-forward
    attention = 4 * queries * width * (keys + config.text_len)
    layer = linear + attention
    if stores:
        return (config.num_layers - 1) * layer + 2 * queries * width**2 * 2
    return config.num_layers * layer


def tick_flops(config: RollingConfig, passes: Iterable[Pass]) -> float:
    """Work of a tick's passes."""
    tokens = config.tokens_per_block
    return sum(
        pass_flops(config, len(p.blocks) * tokens, p.num_keys * tokens, stores=p.levels is None)
        for p in passes
    )


def rolling_flops(config: RollingConfig) -> float:
    """Work per block in the steady state."""
    tick = RollingPlan(config).tick(STEADY + config.window_blocks)
    return tick_flops(config, [*tick.denoise, *([tick.store] if tick.store else [])])


def avatar_flops(config: PipelineConfig) -> float:
    """Work per block of all steps, each with its own full cache."""
    return config.num_steps * pass_flops(config, config.tokens_per_block, config.cache_len)


Times = tuple[float, list[tuple[float, float]]]
"""Seconds to the first block; of each later one, by the clock and of this process."""


def timed(step: Callable[[int], bool], num_blocks: int) -> Times:
    """Call `step(n)` until `num_blocks` blocks came."""
    marks: list[tuple[float, float]] = []
    began, n = time.perf_counter(), 0
    while len(marks) < num_blocks:
        if step(n):
            marks.append((time.perf_counter(), time.process_time()))
        n += 1
    return marks[0][0] - began, [(w, p) for w, p in np.diff(marks, axis=0).tolist()]


def run_rolling(rules: str, num_blocks: int) -> tuple[Times, RollingConfig]:
    device, decoder = WindowDevice(ROLLING), RollingDecoder(ROLLING)
    stage = device.stages[rules]
    stage.warm_up()
    decoder.warm_up()
    config = stage.config
    text = np.zeros((1, config.text_len, config.text_dim), np.float32)
    device.open(1, text, rules=np.frombuffer(rules.encode(), np.uint8))
    decoder.open(1)

    def step(tick: int) -> bool:
        latent = device.step(1, tick)
        if latent is not None and tick < config.window_blocks:
            decoder.step(1, 0, latent)
        return latent is not None

    return timed(step, num_blocks), config


def run_avatar(num_blocks: int) -> tuple[Times, PipelineConfig]:
    config = PipelineConfig.load(AVATAR / "pipeline.json")
    stage, decoder = Stage(AVATAR, list(range(config.num_steps))), Decoder(AVATAR)
    stage.warm_up()
    decoder.warm_up()
    _, channels, _, *size = config.latent_shape
    motion = np.zeros((1, channels, config.motion_frames, *size), np.float32)
    text = np.zeros((1, config.text_len, config.text_dim), np.float32)
    local = np.zeros(config.audio_local_shape, np.float32)
    overall = np.zeros(config.audio_global_shape, np.float32)
    distance = np.full(config.num_steps, config.sink_distance, np.int64)
    stage.open(1, motion[:, :, :1].copy(), motion, text)
    decoder.open(1, motion)

    def step(block: int) -> bool:
        noise = block_noise(0, block, config.latent_shape)
        latent = stage.step(1, block, noise, local, overall, distance)
        if block == 0:
            decoder.step(1, 0, latent)
        return True

    return timed(step, num_blocks), config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--blocks", type=int, default=40, help="blocks per schedule")
    args = parser.parse_args()
    if args.blocks <= STEADY:
        parser.error(f"--blocks is {args.blocks}, wanted more than {STEADY}: caches must be full")
    report: dict[str, object] = {"benchmark": "schedules", **machine()}
    rows = []
    for name in ("rolling_forcing", "self_forcing", "timestep_forcing"):
        print(f"{name}, {args.blocks} blocks …", file=sys.stderr)
        if name == "timestep_forcing":
            (first_s, gaps), avatar = run_avatar(args.blocks)
            flops, frames = avatar_flops(avatar), avatar.video_frames_per_block
        else:
            (first_s, gaps), config = run_rolling(name, args.blocks)
            flops = rolling_flops(config)
            frames = config.frames_per_block * config.temporal_stride
        block_s, cpu_s = np.median(gaps[STEADY:], axis=0).tolist()
        figures = {
            "fps": round(frames / block_s, 1),
            "ttff_ms": round(1e3 * first_s, 1),
            "ms_per_block": round(1e3 * block_s, 1),
            "cpu_ms_per_block": round(1e3 * cpu_s, 1),
            "gflop_per_block": round(flops / 1e9, 2),
            "gflop_per_cpu_s": round(flops / 1e9 / cpu_s, 1),
        }
        report[name] = figures
        rows.append([name, *figures.values()])
    head = [
        "schedule",
        "frames/s",
        "first frame ms",
        "ms/block",
        "CPU ms/block",
        "GFLOP/block",
        "GFLOP/CPU s",
    ]
    print(table(head, rows))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
