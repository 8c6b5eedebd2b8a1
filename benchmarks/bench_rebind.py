"""How much of the mouth's movement has a block that is made again and keeps its first step?

The demo preset's graphs in this process, a stage for each step. An idle face is interrupted by
speech, and its newest block is made again: whole, and with the option `rebind`. The share is the
slope of the mouth's opening with it over that without it, both against the idle block.

    python -m benchmarks.bench_rebind

The last line is one JSON object.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.bench_live import IMAGE, openings
from benchmarks.report import machine
from export.commands import failing_in_words
from live_avatar_client import read_audio
from pipeline.avatar.executor import AvatarExecutor
from pipeline.avatar.local import local_executor
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import AvatarRequest, Options
from pipeline.engines.base import Array
from pipeline.sessions.session import BlockFrames
from train.evaluate.sources import Answers

IDLE_BLOCKS = 5
"""Shown before speech comes; the last of them is made again."""


def made_again(executor: AvatarExecutor, speech: Array, *, rebind: bool) -> tuple[Array, Array]:
    """The idle block, and what becomes of it with this speech, float32 [samples] of a block and
    its look-ahead; frames [F, H, W, 3]."""
    config = executor.config
    avatar = AvatarOrchestrator(config, executor, max_sessions=1, idle_timeout_s=60)
    ahead = config.samples_per_block * config.audio_lookahead_frames
    ahead //= config.video_frames_per_block

    def send(**fields: Any) -> Array:
        answers, made = Answers(), [np.empty((0, 1, 1, 1))]
        given = {"session": 1, "start": False, "end": False, **fields}
        avatar.submit(AvatarRequest(**given), answers)
        while answer := answers.get(timeout=60):
            if isinstance(answer, str):
                raise RuntimeError(answer)
            if isinstance(answer, BlockFrames):
                made.append(answer.frames)
        return np.concatenate(made[1:] or made)

    try:
        options = Options(sink_distance=30, live=True, rebind=rebind)
        send(start=True, image=IMAGE.read_bytes(), prompt="a person talks", options=options)
        silence = np.zeros(IDLE_BLOCKS * config.samples_per_block + ahead, np.float32)
        idle = send(audio=silence)[-config.video_frames_per_block :]
        spoken = send(audio=speech, interrupt=IDLE_BLOCKS - 1)
        send(end=True)
    finally:
        avatar.stop()
    return idle, spoken


@failing_in_words(RuntimeError, ValueError)
def main(
    artifacts: Path = Path("artifacts/demo"),
    audio: Path = Path("examples/speech.flac"),
    places: Annotated[int, typer.Option(min=2, help="of the speech that are tried")] = 12,
) -> None:
    """How much of the mouth's movement has a block that keeps its first step?"""
    executor = local_executor(artifacts)
    heard = np.concatenate(list(read_audio(audio)))
    length = executor.config.samples_per_block * 14 // 12
    moved: dict[bool, list[Array]] = {False: [], True: []}
    for begin in np.linspace(0, len(heard) - length, places).astype(int):
        for rebind, found in moved.items():
            idle, spoken = made_again(executor, heard[begin : begin + length], rebind=rebind)
            found.append(openings(list(spoken)) - openings(list(idle)))
    executor.stop()
    whole, bound = (np.concatenate(found) for found in moved.values())
    shares = [float(w @ b / (w @ w)) for w, b in zip(moved[False], moved[True], strict=True)]
    report = {"benchmark": "rebind", **machine(), "places": places}
    report |= {"share": round(float(whole @ bound / (whole @ whole)), 3)}
    report |= {"share_range": [round(min(shares), 3), round(max(shares), 3)]}
    report |= {"correlation": round(float(np.corrcoef(whole, bound)[0, 1]), 3)}
    print(f"a block that keeps its first step has {report['share']:.0%} of the mouth's movement")
    print(json.dumps(report))


if __name__ == "__main__":
    typer.run(main)
