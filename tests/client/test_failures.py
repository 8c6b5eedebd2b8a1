"""How a client's session fails and ends, against a stand-in server that speaks the wire."""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from live_avatar_client import AvatarError, Session, VideoStream
from tests.client.test_session import BLOCK, _no_client_thread_survives, silence
from tests.support.fake_avatar_server import FakeAvatar, serving

__all__ = ["_no_client_thread_survives"]  # a fixture, for every test here


def is_end(request: tuple) -> bool:
    return bool(request[0].parameters["sequence_end"].bool_param)


@pytest.mark.parametrize("failure", ["break", "viewer", "server"])
def test_end_goes_out_after_a_failure_when_no_request_is_open(failure: str) -> None:
    """Cancelling is seen through open requests only: the place would stay for the idle limit."""
    avatar = FakeAvatar(error_at_block=1 if failure == "server" else None)

    def speech() -> Iterator[np.ndarray]:
        yield silence(BLOCK)
        time.sleep(0.3)
        if failure == "server":
            yield silence(BLOCK)
        time.sleep(0.5)

    with (
        serving(avatar) as url,
        suppress(AvatarError, ZeroDivisionError),
        Session(image=b"p", url=url) as session,
    ):
        for _ in session.stream(speech()):
            time.sleep(0.1)
            if failure == "break":
                break
            if failure == "viewer":
                raise ZeroDivisionError
    assert is_end(avatar.requests[-1])


def test_blocks_of_the_audio_before_a_broken_source_are_not_lost() -> None:
    """The video so far would end seconds before the sound did."""

    def speech() -> Iterator[np.ndarray]:
        yield silence(3 * BLOCK + 640)
        raise OSError("microphone unplugged")

    seen = []
    with (
        serving(FakeAvatar()) as url,
        pytest.raises(OSError, match="unplugged"),
        Session(image=b"p", url=url) as session,
    ):
        seen.extend(len(block.frames) for block in session.stream(speech()))
    assert seen == [12, 12, 12, 1]


def test_a_source_that_ends_the_interpreter_does_not_leave_the_reader_waiting() -> None:
    """`sys.exit` in a callback of an audio library is nobody's error but the reader's to see."""

    def speech() -> Iterator[np.ndarray]:
        yield silence(BLOCK)
        raise SystemExit(3)

    with (
        serving(FakeAvatar()) as url,
        pytest.raises(SystemExit),
        Session(image=b"p", url=url) as session,
    ):
        list(session.stream(speech()))


def test_start_asks_to_be_held() -> None:
    """By an open request the server sees at once that a client was killed."""
    avatar = FakeAvatar()
    with serving(avatar) as url, Session(image=b"p", url=url) as session:
        session.finish()
        assert list(session) == []
    holds = [r.parameters["hold"].bool_param for r, _ in avatar.requests]
    assert holds == [True, False]


def test_a_server_that_hangs_after_start_is_given_up_whoever_speaks_late() -> None:
    """The reader waits before anything is owed, and would not notice that something is now."""

    def late() -> Iterator[np.ndarray]:
        time.sleep(0.2)
        yield silence(BLOCK)
        time.sleep(3)

    with (
        serving(FakeAvatar(silent=True)) as url,
        pytest.raises(AvatarError, match="was silent for"),
        Session(image=b"p", url=url, timeout_s=0.4) as session,
    ):
        list(session.stream(late()))


def test_a_session_that_nobody_closes_ends_with_its_owner() -> None:
    """It would say "I am here" every three seconds and keep its place for ever."""
    avatar = FakeAvatar()
    with serving(avatar) as url:
        session = Session(image=b"p", url=url)
        session.open()
        del session
        gc.collect()
        assert is_end(avatar.requests[-1])


def test_a_session_that_is_interrupted_while_it_opens_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`with` does not close what it has not entered."""

    def interrupted(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    avatar = FakeAvatar()
    with serving(avatar) as url:
        session = Session(image=b"p", url=url)
        start = threading.Thread.start
        monkeypatch.setattr(
            threading.Thread,
            "start",
            lambda thread: (interrupted if thread.name == "avatar-pulse" else start)(thread),
        )
        with pytest.raises(KeyboardInterrupt), session:
            pass
        assert is_end(avatar.requests[-1])


def test_sound_in_a_buffer_that_is_filled_again_stays_with_its_frames() -> None:
    """Libraries of microphones hand out the same array each time."""

    def microphone() -> Iterator[np.ndarray]:
        buffer = np.zeros(BLOCK // 2, np.float32)
        for number in range(4):
            buffer[:] = number / 8
            yield buffer

    with serving(FakeAvatar()) as url, Session(image=b"p", url=url) as session:
        heard = np.concatenate([block.audio for block in session.stream(microphone())])  # type: ignore[misc]
    assert np.array_equal(heard[:: BLOCK // 2], [0, 1 / 8, 2 / 8, 3 / 8])


def test_a_video_stream_ends_at_once_when_its_connection_breaks() -> None:
    """It sent END into the dead stream and waited a minute for the answer."""
    with serving(FakeAvatar(model="rolling_forcing", cut_at_block=0)) as url:
        stream = VideoStream(prompt="fog", url=url, options={"blocks": 4}, timeout_s=20)
        stream.open()
        answers = stream.blocks(1)
        assert stream._stream is not None
        stream._stream.cancel()
        with pytest.raises(AvatarError):
            list(answers)
        began_s = time.monotonic()
        stream.close()
        assert time.monotonic() - began_s < 3


@pytest.mark.parametrize("given", [np.zeros(640, np.float32), "speech.flac", b"RIFF", 5, None])
def test_what_is_no_iterable_of_chunks_is_refused_in_words(given: object) -> None:
    """The likeliest first mistake was told that audio is float32 []."""
    with (
        serving(FakeAvatar()) as url,
        pytest.raises(ValueError, match=r"expected an iterable of chunks: read_audio"),
        Session(image=b"p", url=url) as session,
    ):
        list(session.stream(given))  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{"prompt": 5}, {"seed": "x"}, {"seed": 1.5}])
def test_arguments_of_another_type_are_named(arguments: dict) -> None:
    """The first to see them was a library, with words of its own."""
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} is .*, expected"):
        Session(image=b"p", **arguments)
