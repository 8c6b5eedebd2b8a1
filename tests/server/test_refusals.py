"""A START that is refused, with audio sent behind it: every answer tells the true reason."""

from collections import Counter

import numpy as np
import pytest

from deploy.server.local import LocalServer
from tests.support.raw_stream import IMAGE, Stream, wait_until_free

pytestmark = pytest.mark.triton
AUDIO = np.zeros(640, np.float32)


def text(words: str) -> np.ndarray:
    return np.frombuffer(words.encode(), np.uint8)


def cut_picture() -> np.ndarray:
    return IMAGE[: len(IMAGE) // 2].copy()


KINDS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "no picture": ({}, "no picture"),
    "two pictures": ({"image": IMAGE, "image_rgb": np.zeros((4, 4, 3), np.uint8)}, "image_rgb"),
    "no picture's bytes": ({"image": np.arange(100, dtype=np.uint8)}, "image"),
    "half a picture": ({"image": cut_picture()}, "image"),
    "an empty picture": ({"image_rgb": np.zeros((0, 4, 3), np.uint8)}, "image is 4 x 0"),
    "options that aren't JSON": ({"image": IMAGE, "options": text("{")}, "options is not JSON"),
    "an unknown option": ({"image": IMAGE, "options": text('{"speed": 2}')}, "option 'speed'"),
    "a prompt that isn't UTF-8": (
        {"image": IMAGE, "prompt": np.full(3, 255, np.uint8)},
        "prompt is not UTF-8",
    ),
    "a prompt that is too long": (
        {"image": IMAGE, "prompt": np.full(9000, 65, np.uint8)},
        "prompt has 9000 bytes",
    ),
    "a sound that isn't finite": (
        {"image": IMAGE, "audio": np.full(10, np.nan, np.float32)},
        "audio sample 0 is nan",
    ),
}
"""START's inputs and the words of the reason."""


def refuse(stream: Stream, kind: str) -> list[str]:
    """What START and each of the requests pipelined behind it hear."""
    inputs, _ = KINDS[kind]
    stream.session += 1
    stream.send(start=True, **inputs)
    for _ in range(2):
        stream.send(audio=AUDIO)
    stream.send(audio=AUDIO, end=True)
    return [stream.answer()[1] for _ in range(4)]


@pytest.mark.parametrize("rounds", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_every_request_of_a_refused_session_hears_why(server: LocalServer, rounds: int) -> None:
    """ "Session 7 is not open" came first, and the reason was in the log alone."""
    stream = Stream(server)
    wrong: Counter[str] = Counter()
    for _ in range(rounds):
        for kind, (_, words) in KINDS.items():
            wrong.update(
                f"{kind}: {heard!r}" for heard in refuse(stream, kind) if words not in heard
            )
    stream.close()
    assert not wrong
    assert wait_until_free(server) < 2.0


def test_a_server_that_is_full_says_so_to_the_audio_behind_start(server: LocalServer) -> None:
    """The client would be told that it had not opened its session."""
    guests = [Stream(server) for _ in range(2)]
    for guest in guests:
        assert guest.ask(start=True, image=IMAGE)[1] == ""
    late = Stream(server)
    late.send(start=True, image=IMAGE)
    late.send(audio=AUDIO)
    assert all("all 2 sessions" in late.answer()[1] for _ in range(2))
    for guest in guests:
        guest.ask(end=True)
    for stream in (*guests, late):
        stream.close()
    wait_until_free(server)
