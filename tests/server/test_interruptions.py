"""What a live client may change in mid-session, through the real server."""

from collections.abc import Iterator

import numpy as np
import pytest

from deploy.server.local import LocalServer
from tests.support.raw_stream import IMAGE, Stream

pytestmark = pytest.mark.triton

BLOCK, LOOK_AHEAD = 7680, 1280
OPTIONS = np.frombuffer(b'{"live": true}', np.uint8)
Answers = list[dict[str, np.ndarray]]


@pytest.fixture
def stream(server: LocalServer) -> Iterator[Stream]:
    stream = Stream(server)
    assert stream.ask(start=True, image=IMAGE, options=OPTIONS) == (0, "")
    yield stream
    stream.close()


def sound(seed: int, num_samples: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def ask(stream: Stream, **request: object) -> Answers:
    stream.send(**request)  # type: ignore[arg-type]
    answers, error = stream.answered()
    assert error == ""
    return answers


def number(text: int) -> np.ndarray:
    return np.array([text], np.int64)


def test_a_burst_is_cut_off_and_the_next_sound_follows_at_the_boundary(stream: Stream) -> None:
    """The avatar would say to the end what nobody wants to hear."""
    stream.send(audio=sound(0, 20 * BLOCK))
    stream.send(interrupt=number(-1))
    answers = [*stream.answered()[0], *stream.answered()[0]]  # those of both requests, as they come
    (notice,) = [answer for answer in answers if "frames" not in answer]
    assert set(notice) == {"generation", "block", "frame_index"}
    boundary = int(notice["block"][0])
    assert (int(notice["generation"][0]), int(notice["frame_index"][0])) == (1, 12 * boundary)
    shown = [answer for answer in answers if "frames" in answer]
    assert [int(answer["block"][0]) for answer in shown] == list(range(boundary))
    assert boundary <= 5
    (last,) = ask(stream, end=True, audio=sound(1, BLOCK))
    assert (int(last["block"][0]), int(last["generation"][0])) == (boundary, 1)


def test_a_block_made_again_is_as_if_it_had_been_made_once(
    server: LocalServer, stream: Stream
) -> None:
    """The picture would jump where speech replaces silence."""
    wanted = sound(0, 4 * BLOCK + LOOK_AHEAD)
    straight = Stream(server)
    straight.ask(start=True, image=IMAGE, options=OPTIONS)
    expected = [a["frames"] for a in ask(straight, end=True, audio=wanted[: 3 * BLOCK])]
    straight.close()
    replaced = wanted[: 2 * BLOCK + LOOK_AHEAD].copy()
    replaced[BLOCK + LOOK_AHEAD :] = 0
    shown = ask(stream, audio=replaced)
    assert [int(answer["block"][0]) for answer in shown] == [0, 1]
    notice, again = ask(stream, interrupt=number(1), audio=wanted[BLOCK : 2 * BLOCK + LOOK_AHEAD])
    assert int(notice["block"][0]) == 1
    (last,) = ask(stream, end=True, audio=wanted[2 * BLOCK + LOOK_AHEAD : 3 * BLOCK])
    found = [shown[0]["frames"], again["frames"], last["frames"]]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(shown[1]["frames"], again["frames"])


def test_what_cannot_be_changed_any_more_is_said_and_changes_nothing(stream: Stream) -> None:
    """Its sound would be heard with other frames."""
    assert len(ask(stream, audio=sound(0, 3 * BLOCK + LOOK_AHEAD))) == 3
    stream.send(interrupt=number(1), audio=sound(1, BLOCK))
    answers, error = stream.answered()
    assert answers == []
    assert "interrupt is at block 1, wanted 2..3" in error
    (last,) = ask(stream, end=True, audio=sound(2, BLOCK - LOOK_AHEAD))
    assert (int(last["block"][0]), int(last["generation"][0])) == (3, 0)


def test_a_new_prompt_changes_the_picture_from_its_blocks_on(server: LocalServer) -> None:
    """It changed nothing but at the start."""
    heard = sound(0, 4 * BLOCK)
    videos: list[list[np.ndarray]] = []
    for prompt in (b"", b"a happy person smiles"):
        stream = Stream(server)
        stream.ask(start=True, image=IMAGE, options=OPTIONS)
        given = {"prompt": np.frombuffer(prompt, np.uint8)} if prompt else {}
        answers = ask(stream, audio=heard[: 2 * BLOCK + LOOK_AHEAD])
        answers += ask(stream, end=True, audio=heard[2 * BLOCK + LOOK_AHEAD :], **given)
        videos.append([answer["frames"] for answer in answers])
        stream.close()
    equal = [np.array_equal(one, other) for one, other in zip(*videos, strict=True)]
    assert equal == [True, True, False, False]
