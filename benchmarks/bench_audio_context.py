"""How much audio before a block must its features see?

The audio encoder attends over its whole window, so a shorter window changes its features. This
streams a recording with windows of several lengths, and compares each block's features with those
of one window over the whole recording: relative error (L2 over all layers and frames), and what a
window costs on one thread.

    python -m benchmarks.bench_audio_context

The last line is one JSON object.
"""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import typer

from benchmarks.report import machine, table
from live_avatar_client import read_audio
from pipeline.avatar.audio import StreamingAudio
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Array
from pipeline.engines.onnx import Engine

WHOLE = 10**6
"""More video frames than any recording here has."""


def features(
    engine: Engine, config: PipelineConfig, audio: Array, context: int, lookahead: int
) -> tuple[Array, float]:
    """Features [blocks, ...] of the recording, and milliseconds per block (median)."""
    config = dataclasses.replace(
        config, audio_context_frames=context, audio_lookahead_frames=lookahead
    )
    stream = StreamingAudio(config)
    stream.append(audio)
    stream.finish()
    blocks, times = [], []
    while (window := stream.next_window()) is not None:
        began = time.perf_counter()
        names = "samples", "frame_index", "frame_weight"
        inputs = {name: getattr(window, name) for name in names}
        blocks.append(engine.run(inputs)["audio_features"])
        times.append(1e3 * (time.perf_counter() - began))
    return np.stack(blocks), float(np.median(times))


def main(
    artifacts: Path = Path("artifacts/demo"), audio: Path = Path("examples/speech.flac")
) -> None:
    """How much audio before a block must its features see?"""
    config = PipelineConfig.load(artifacts / "pipeline.json")
    engine = Engine(artifacts / "audio_encoder.onnx")
    sound = np.concatenate(list(read_audio(audio)))
    whole, _ = features(engine, config, sound, WHOLE, WHOLE)
    rows, report = [], {"benchmark": "audio_context", **machine()}
    for context, lookahead in [
        *((context, 0) for context in (0, 12, 25, 50, 75, 125, 250)),
        *((125, lookahead) for lookahead in (3, 6, 12, 25)),
        (WHOLE, WHOLE),
    ]:
        got, ms = features(engine, config, sound, context, lookahead)
        error = float(np.linalg.norm(got - whole) / np.linalg.norm(whole))
        name = "whole" if context == WHOLE else f"{context / config.fps:g}"
        ahead = "whole" if lookahead == WHOLE else f"{lookahead / config.fps:g}"
        rows.append([name, ahead, f"{error:.4f}", f"{ms:.1f}"])
        report[f"error_{name}_{ahead}"] = round(error, 5)
    print(table(["context s", "look-ahead s", "relative error", "ms per block"], rows))
    print(json.dumps(report))


if __name__ == "__main__":
    typer.run(main)
