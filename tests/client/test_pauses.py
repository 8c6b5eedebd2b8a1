"""What a session does while the voice is silent: the arithmetic, and a stand-in server."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from live_avatar_client import Session, exchange
from live_avatar_client.ledger import PAUSE_S, STEP_S, Mirror, Pauses
from tests.support.fake_avatar_server import FakeAvatar, serving

SECOND = 16_000


def test_nothing_is_due_before_the_first_sound_nor_while_it_lasts() -> None:
    """A session that has not begun, or speaks, would get silence into its words."""
    pauses = Pauses(is_fed=True)
    assert pauses.due(1e6) == 0
    pauses.sent(2 * SECOND, 100.0)
    assert pauses.due(102.0 + PAUSE_S - 0.01) == 0


def test_sound_sent_ahead_of_its_time_lasts_longer() -> None:
    """A burst of synthetic speech would be cut by silence while it is still being heard."""
    pauses = Pauses(is_fed=True)
    for _ in range(10):
        pauses.sent(SECOND, 100.0)
    assert pauses.due(109.9) == 0
    assert pauses.due(110.5) > 0


def test_a_pause_is_fed_at_real_time_in_whole_frames() -> None:
    """Less would let the face stand still, more would let it run ahead of the next word."""
    pauses = Pauses(is_fed=True)
    pauses.sent(SECOND, 0.0)
    fed, now_s = 0, 1.0
    while now_s < 61.0:
        silence = pauses.due(now_s)
        assert silence % 640 == 0
        pauses.sent(silence, now_s, is_silence=True)
        fed += silence
        ahead_s = (SECOND + fed) / SECOND - now_s
        assert ahead_s >= 0 or now_s < 1.0 + PAUSE_S
        assert ahead_s < STEP_S + 0.05
        now_s += 0.037


def test_a_pause_that_could_not_be_fed_is_not_made_up_for() -> None:
    """After an hour of a laptop's sleep an hour of silence would stand before the next word."""
    pauses = Pauses(is_fed=True)
    pauses.sent(SECOND, 0.0)
    assert pauses.due(3600.0) <= 1.2 * SECOND


def test_a_session_for_files_never_gets_silence() -> None:
    """n samples would no longer give n / 640 frames where a disk is slow."""
    pauses = Pauses(is_fed=False)
    pauses.sent(SECOND, 0.0)
    assert pauses.due(100.0) == 0


def test_the_mirror_gives_back_what_was_sent_in_the_frames_own_pieces() -> None:
    """A viewer would hear other sound than the mouth speaks."""
    mirror = Mirror()
    assert mirror.take(640) is None
    sound = np.random.default_rng(0).uniform(-1, 1, 3000).astype(np.float32)
    mirror.append(sound[:1000])
    mirror.append(sound[1000:])
    mirror.append(np.full(100, 16384, np.int16))
    taken = [mirror.take(n) for n in (640, 1920, 1000)]
    heard = np.concatenate([piece for piece in taken if piece is not None])
    assert heard.dtype == np.float32
    assert np.array_equal(heard[:3000], sound)
    assert np.array_equal(heard[3000:], np.append(np.full(100, 0.5), np.zeros(460)))


def hesitant(pause_s: float) -> Iterator[np.ndarray]:
    """Words of 0.3 s, a pause, words of 0.3 s."""
    yield np.full(4800, 0.25, np.float32)
    time.sleep(pause_s)
    yield np.full(4800, 0.5, np.float32)


def test_the_last_words_before_a_pause_come_out_during_it() -> None:
    """They would stay in the server until the speaker goes on."""
    began_s = time.perf_counter()
    with serving(FakeAvatar()) as url, Session(image=b"png", url=url) as session:
        blocks = list(session.stream(hesitant(1.5)))
    assert blocks[0].received_s - began_s < 1.4
    sound = np.concatenate([block.audio for block in blocks])  # type: ignore[misc]
    assert (sound[:4800] == 0.25).all()
    second = np.flatnonzero(sound == 0.5)
    assert len(second) == 4800
    assert 1.4 * SECOND < second[0] < 2.2 * SECOND, "the face would be early or late after it"
    assert (sound[4800 : second[0]] == 0).all()


def test_without_idle_a_pause_adds_nothing() -> None:
    """A slow disk would stretch a file."""
    avatar = FakeAvatar()
    with serving(avatar) as url, Session(image=b"png", url=url, idle=False) as session:
        assert sum(len(b.frames) for b in session.stream(hesitant(1.0))) == 15


def test_features_in_place_of_sound_are_never_mixed_with_silence() -> None:
    """The server refuses one after the other, and noise belongs to certain blocks."""
    avatar = FakeAvatar()
    with serving(avatar) as url, Session(image=b"png", url=url) as session:
        session.send(audio_features=np.zeros((1, 2, 3, 12), np.float32))
        time.sleep(PAUSE_S + 0.4)
    assert not any("audio_int16" in tensors for _, tensors in avatar.requests)


def test_a_silent_session_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server frees a place after 10 s without a request."""
    monkeypatch.setattr(exchange, "_KEEP_ALIVE_S", 0.2)
    avatar = FakeAvatar()
    with serving(avatar) as url, Session(image=b"png", url=url, idle=False) as session:
        time.sleep(1.0)
        session.finish()
        assert list(session) == []
    assert 2 <= sum(list(t) == ["received"] for _, t in avatar.requests[1:-1]) <= 6


def test_silence_waits_for_a_viewer_that_does_not_look() -> None:
    """An hour of a hidden window would be an hour of video in memory."""
    avatar = FakeAvatar()
    with (
        serving(avatar) as url,
        Session(image=b"png", url=url, max_ahead_s=1.0) as session,
    ):
        session.send(np.zeros(SECOND // 2, np.float32))
        time.sleep(3.0)
        sent = sum(len(t.get("audio", t.get("audio_int16", ()))) for _, t in avatar.requests)
        assert sent <= 1.7 * SECOND
