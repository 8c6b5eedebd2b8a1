"""A live session for plain threads, against a stand-in server."""

import threading
import time

import numpy as np
import pytest

from live_avatar_client import AvatarError
from live_avatar_client.live.threaded import ThreadedLiveSession
from tests.client.live.simulated_talk import speech
from tests.support.fake_avatar_server import FakeAvatar, serving

pytestmark = pytest.mark.long  # a conversation takes its time


def names() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("avatar-")]


def test_a_thread_feeds_while_another_looks() -> None:
    """The way of most programs: a window in the main thread, speech in another."""
    said = speech(1.0)
    with (
        serving(FakeAvatar(block_s=0.1)) as url,
        ThreadedLiveSession(image=b"png", url=url) as face,
    ):
        threading.Timer(0.5, face.feed, (said,)).start()
        threading.Timer(1.2, face.interrupt).start()
        seen = []
        for frame in face.frames():
            seen.append(frame)
            if frame.index == 60:
                break
        counted = face.statistics()
    heard = np.concatenate([frame.sound for frame in seen])
    loud = heard[heard != 0]
    assert 0 < len(loud) < len(said)
    assert np.array_equal(loud, said[: len(loud)])
    assert seen[-1].generation == 1
    assert counted.interruptions == 1
    assert names() == []


def test_closing_ends_the_frames_of_another_thread() -> None:
    """A window that waits for its next frame would never close."""
    seen = []
    with (
        serving(FakeAvatar(block_s=0.1)) as url,
        ThreadedLiveSession(image=b"png", url=url) as face,
    ):
        viewer = threading.Thread(target=lambda: seen.extend(face.frames()))
        viewer.start()
        time.sleep(0.6)
    viewer.join(2)
    assert not viewer.is_alive()
    assert seen


def test_errors_come_out_in_the_callers_thread() -> None:
    """Lost in the loop's thread they would look like a face that stands still."""
    with pytest.raises(AvatarError, match="make serve"):
        ThreadedLiveSession(image=b"png", url="127.0.0.1:9").__enter__()
    face = ThreadedLiveSession(image=b"png")
    with pytest.raises(RuntimeError, match="not open"):
        face.feed(speech(1.0))
    with (
        serving(FakeAvatar()) as url,
        ThreadedLiveSession(image=b"png", url=url) as face,
        pytest.raises(ValueError, match="mono 16 kHz"),
    ):
        face.feed(np.zeros(10))
    assert names() == []
