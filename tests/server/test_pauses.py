"""A voice that speaks, thinks for longer than the idle limit and speaks again: the real server."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from live_avatar_client import Session, read_audio

pytestmark = pytest.mark.triton
EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS, PAUSE_S = 21_000, 12.0


def test_a_voice_may_think_for_twelve_seconds(server: LocalServer) -> None:
    """Half of the last words stayed in the server, and the session was gone."""
    speech = np.concatenate(list(read_audio(EXAMPLES / "speech.flac")))
    paused_s = 0.0

    def voice() -> Iterator[np.ndarray]:
        nonlocal paused_s
        yield speech[:WORDS]
        paused_s = time.perf_counter()
        time.sleep(PAUSE_S)
        yield speech[WORDS : 2 * WORDS]

    with Session(url=server.grpc_url, image=EXAMPLES / "portrait.png") as session:
        blocks = list(session.stream(voice()))
    heard = np.concatenate([block.audio for block in blocks])  # type: ignore[misc]
    last_word = blocks[(WORDS - 1) // 7680]
    assert last_word.received_s - paused_s < 6.0, "the last words came out long after"
    assert np.array_equal(heard[:WORDS], speech[:WORDS])
    second = speech[WORDS : 2 * WORDS]
    begin = len(heard) - 640 * (WORDS // 640 + 1)
    offset = np.flatnonzero(heard[WORDS:])[0] - np.flatnonzero(second)[0] + WORDS
    assert np.array_equal(heard[offset : offset + WORDS], second)
    assert offset <= begin + 640
    assert offset / 16_000 > PAUSE_S - 1.0, "the face stood still in the pause"
    assert len(heard) == 640 * sum(len(block.frames) for block in blocks)
