"""An hour has no end either: a long session on the real server."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from deploy.server.local import LocalServer
from live_avatar_client import Session, read_audio

pytestmark = [pytest.mark.triton, pytest.mark.slow]
EXAMPLES = Path(__file__).parents[2] / "examples"
NUM_BLOCKS = 1000
SETTLED = 200


def resident_mb(server: LocalServer) -> float:
    """Memory of the server and all its models."""
    processes = [psutil.Process(pid) for pid in (server.pid, *server.stub_pids())]
    return sum(process.memory_info().rss for process in processes) / 2**20


def endless_speech(num_samples: int) -> Iterator[np.ndarray]:
    speech = np.concatenate(list(read_audio(EXAMPLES / "speech.flac")))
    for start in range(0, num_samples, 8000):
        yield speech.take(range(start, min(start + 8000, num_samples)), mode="wrap")


def test_a_thousand_blocks_leave_memory_flat_and_the_picture_alive(server: LocalServer) -> None:
    """480 s of speech: 12,000 frames, none kept, and block 1000 looks like block 20."""
    memory, spread, frames = {}, [], 0
    with Session(url=server.grpc_url, image=EXAMPLES / "portrait.png", idle=False) as session:
        for block in session.stream(endless_speech(NUM_BLOCKS * 7680)):
            frames += len(block.frames)
            spread.append(float(block.frames.std()))
            if block.block in (SETTLED, NUM_BLOCKS - 1):
                memory[block.block] = resident_mb(server)
    assert frames == NUM_BLOCKS * 12
    grown = memory[NUM_BLOCKS - 1] - memory[SETTLED]
    assert grown < 20, f"{grown:.1f} MB more after {NUM_BLOCKS - SETTLED} blocks: {memory}"
    early, late = spread[20:120], spread[-100:]
    assert min(early) * 0.9 < np.median(late) < max(early) * 1.1
