"""Sessions on the real server: what comes out depends on what went in and on nothing else."""

import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from live_avatar_client import Block, Session, read_audio

pytestmark = pytest.mark.triton
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Three seconds and a bit: 7 blocks, the last one partial."""
    return np.concatenate(list(read_audio(EXAMPLES / "speech.flac")))[16_000 : 16_000 + 50_000]


def stream(server: LocalServer, chunks: Iterable[np.ndarray], seed: int = 3) -> list[Block]:
    with Session(
        url=server.grpc_url, image=EXAMPLES / "portrait.png", seed=seed, idle=False
    ) as session:
        return list(session.stream(chunks))


def video(blocks: list[Block]) -> np.ndarray:
    return np.concatenate([b.frames for b in blocks])


@pytest.fixture(scope="module")
def alone(server: LocalServer, speech: np.ndarray) -> np.ndarray:
    """The session by itself, its audio in one piece."""
    return video(stream(server, [speech]))


def test_every_640_samples_give_one_frame(
    server: LocalServer, speech: np.ndarray, alone: np.ndarray
) -> None:
    """The picture would drift from the sound."""
    assert len(alone) == -(-len(speech) // 640)
    assert alone.dtype == np.uint8
    assert alone.std() > 1.0


@pytest.mark.parametrize("samples", [333, 1600, 20_000])
def test_chunk_size_of_the_audio_does_not_matter(
    server: LocalServer, speech: np.ndarray, alone: np.ndarray, samples: int
) -> None:
    """A client's buffering would change its picture."""
    chunks = [speech[i : i + samples] for i in range(0, len(speech), samples)]
    np.testing.assert_array_equal(video(stream(server, chunks)), alone)


def test_int16_audio_equals_float_audio(server: LocalServer, speech: np.ndarray) -> None:
    """Two doors, one picture."""
    pcm = np.round(speech * 32767).astype(np.int16)
    as_float = video(stream(server, [pcm.astype(np.float32) / 32768]))
    np.testing.assert_array_equal(video(stream(server, [pcm])), as_float)


def test_a_session_after_another_equals_a_fresh_one(
    server: LocalServer, speech: np.ndarray, alone: np.ndarray
) -> None:
    """State of the previous session would leak into caches that are reused."""
    stream(server, [speech[::-1].copy()], seed=9)
    np.testing.assert_array_equal(video(stream(server, [speech])), alone)


def test_two_interleaved_sessions_equal_two_separate_ones(
    server: LocalServer, speech: np.ndarray, alone: np.ndarray
) -> None:
    """A block would land in the other session's cache."""
    other_alone = video(stream(server, [speech[::-1].copy()], seed=9))
    results: dict[int, np.ndarray] = {}

    def run(seed: int, audio: np.ndarray) -> None:
        chunks = [audio[i : i + 4000] for i in range(0, len(audio), 4000)]
        results[seed] = video(stream(server, chunks, seed))

    threads = [
        threading.Thread(target=run, args=(3, speech)),
        threading.Thread(target=run, args=(9, speech[::-1].copy())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(results[3], alone)
    np.testing.assert_array_equal(results[9], other_alone)
    assert np.abs(alone.astype(int) - other_alone).max() > 0


def test_later_audio_never_changes_earlier_frames(
    server: LocalServer, speech: np.ndarray, alone: np.ndarray
) -> None:
    """A stream that looks into the future can't be live."""
    half = speech[: 3 * 7680]
    # The last of its three blocks looks ahead into sound that it never hears.
    np.testing.assert_array_equal(video(stream(server, [half]))[:24], alone[:24])


def test_a_live_session_answers_before_its_audio_is_over(
    server: LocalServer, speech: np.ndarray
) -> None:
    """A server that waits for END isn't streaming."""
    with Session(url=server.grpc_url, image=EXAMPLES / "portrait.png", idle=False) as session:
        session.send(speech[:9000])  # a block and the look-ahead
        first = next(iter(session))
        assert first.block == 0
        assert first.timings_ms["total"] > 0
        time.sleep(0.1)
        session.send(speech[9000:9600])
        session.finish()
        assert [len(b.frames) for b in session] == [3]
