"""A session whose server is lost or full goes on at another try."""

import logging
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from live_avatar_client import AvatarError, Session, exchange, resume
from live_avatar_client.ledger import Ledger
from live_avatar_client.protocol import Block, UnavailableError
from live_avatar_client.resume import GIVE_UP_S, Tries, refusal
from tests.client.test_session import BLOCK, _no_client_thread_survives, silence
from tests.support.fake_avatar_server import FakeAvatar, serving

__all__ = ["_no_client_thread_survives"]  # a fixture, for every test here

FULL = "all 2 sessions of this server are in use; try again later"
DRAINED = "no new sessions here, it is being drained; try another server"
DEAD = "Stub process 'live_avatar_0_0' is not healthy."
FAULTS: list[dict[str, Any]] = [
    {"abort_at_block": 2},
    {"cut_at_block": 2},
    {"error_at_block": 2, "error": DEAD},
    {"cut_at_block": 0},
    {"refuses_start": FULL},
    {"refuses_start": DRAINED},
]


def tone(num_samples: int) -> np.ndarray:
    return np.sin(np.arange(num_samples, dtype=np.float32) / 50) / 2


def sent_sounds(avatar: FakeAvatar) -> list[np.ndarray]:
    """Of each sequence that the server saw, in order."""
    sounds: dict[int, list[np.ndarray]] = {}
    for request, tensors in avatar.requests:
        number = request.parameters["sequence_id"].int64_param
        sounds.setdefault(number, []).append(tensors.get("audio", np.empty(0, np.float32)))
    return [np.concatenate(parts) for parts in sounds.values()]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_video_goes_on_without_a_gap_in_frames_or_sound(fault: dict[str, Any]) -> None:
    """A viewer would lose the rest of the video, or words of it."""
    speech = tone(5 * BLOCK + 700)
    avatar = FakeAvatar(num_faulty=1, **fault)
    with serving(avatar) as url, Session(image=b"p", url=url, seed=3, resume=True) as session:
        blocks = list(session.stream(np.array_split(speech, 20)))
    assert [block.block for block in blocks] == list(range(6))
    assert [block.frame_index for block in blocks] == [12 * number for number in range(6)]
    heard = np.concatenate([block.audio for block in blocks])
    np.testing.assert_array_equal(heard[: len(speech)], speech)
    done = fault.get("abort_at_block", fault.get("cut_at_block", fault.get("error_at_block", 0)))
    _, second = sent_sounds(avatar)
    np.testing.assert_array_equal(second, speech[done * BLOCK :])
    starts = [tensors for request, tensors in avatar.requests if "image" in tensors]
    assert [int(tensors["seed"][0]) for tensors in starts] == [3, 3]


def test_a_server_that_is_lost_behind_end_is_asked_for_the_rest() -> None:
    """The last words would be missing; END has to go out once more."""
    avatar = FakeAvatar(cut_at_block=2, num_faulty=1)
    avatar.may_answer.clear()
    with serving(avatar) as url, Session(image=b"p", url=url, resume=True) as session:
        session.send(silence(3 * BLOCK + 1))
        session.finish()
        avatar.may_answer.set()
        assert [len(block.frames) for block in session] == [12, 12, 12, 1]


def test_who_only_sends_is_resumed_too() -> None:
    """A sender would wait for room that no server ever makes."""
    avatar = FakeAvatar(abort_at_block=1, num_faulty=1)
    with (
        serving(avatar) as url,
        Session(image=b"p", url=url, resume=True, max_ahead_s=1.0) as session,
    ):
        for _ in range(12):
            session.send(silence(BLOCK // 2))
        session.finish()
        assert [block.block for block in session] == list(range(6))


@pytest.mark.parametrize("is_asked", [True, False])
def test_what_another_try_would_not_mend_is_an_error_at_once(is_asked: bool) -> None:
    """A bad picture would be sent for half a minute; who did not ask hears of a loss."""
    fault = {"refuses_start": "image can't be decoded"} if is_asked else {"refuses_start": FULL}
    avatar = FakeAvatar(**fault)
    with (
        serving(avatar) as url,
        pytest.raises(AvatarError, match=fault["refuses_start"]),
        Session(image=b"p", url=url, resume=is_asked) as session,
    ):
        list(session.stream([silence(BLOCK)]))
    assert avatar.num_streams == 1


@pytest.mark.parametrize("num_lost", [1, exchange.FIRST_TRIES + 1])
def test_a_server_that_dies_under_the_first_call_is_tried_again_a_few_times(num_lost: int) -> None:
    """A balancer sends the next call to another one; who has no server waits a second for it."""

    class Dying(FakeAvatar):
        num_calls = 0

        def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802, wire name
            self.num_calls += 1
            if self.num_calls <= num_lost:
                context.abort(grpc.StatusCode.UNAVAILABLE, "connection termination")
            return super().ModelReady(request, context)

    avatar, began_s = Dying(), time.monotonic()
    with serving(avatar) as url:
        if num_lost == 1:
            with Session(image=b"p", url=url, resume=True) as session:
                assert len(list(session.stream([silence(BLOCK)]))) == 1
        else:
            with pytest.raises(AvatarError, match="connection termination"):
                Session(image=b"p", url=url, resume=True).open()
    assert avatar.num_calls == min(num_lost, exchange.FIRST_TRIES) + 1
    assert time.monotonic() - began_s < 5


def test_tries_end_and_say_so(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """A full server would be asked for ever, in silence."""
    monkeypatch.setattr(exchange, "Tries", partial(Tries, 0.5))
    avatar = FakeAvatar(refuses_start=FULL)
    with (
        serving(avatar) as url,
        caplog.at_level(logging.WARNING),
        pytest.raises(AvatarError, match=r"try again later; given up after \d tries"),
        Session(image=b"p", url=url, resume=True) as session,
    ):
        list(session.stream([silence(BLOCK)]))
    assert 3 <= avatar.num_streams <= 9
    assert "trying again in 0.1 s, from 0.00 s on" in caplog.text


def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader would wait for ever."""
    monkeypatch.setattr(exchange, "Tries", partial(Tries, 0.5))

    def speech() -> Iterator[np.ndarray]:
        yield silence(BLOCK)
        left.wait(5)
        yield from [silence(BLOCK)] * 3

    left = threading.Event()
    with serving(FakeAvatar()) as url:
        session = Session(image=b"p", url=url, resume=True, connect_timeout_s=1)
        session.open()
        blocks = session.stream(speech())
        assert next(blocks).block == 0
    left.set()
    with pytest.raises(AvatarError, match=r"no server answers.*given up after"):
        list(blocks)
    session.close()


def test_closing_does_not_wait_for_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C would hang while a full server is asked again and again."""
    monkeypatch.setattr(resume, "FIRST_WAIT_S", 20.0)
    monkeypatch.setattr(resume, "LONGEST_WAIT_S", 20.0)
    avatar = FakeAvatar(refuses_start=FULL)
    with serving(avatar) as url:
        session = Session(image=b"p", url=url, resume=True)
        session.open()
        time.sleep(0.3)
        began_s = time.monotonic()
        session.close()
    assert time.monotonic() - began_s < 5


def test_a_session_with_features_is_not_resumed() -> None:
    """They belong to certain blocks, and the client has not kept them."""
    avatar = FakeAvatar(abort_at_block=1)
    features = np.zeros((1, 5, 384, 12), np.float32)
    with (
        serving(avatar) as url,
        Session(image=b"p", url=url, resume=True) as session,
    ):
        session.send(silence(BLOCK), audio_features=features)
        blocks = iter(session)
        next(blocks)
        session.send(silence(BLOCK), audio_features=features)
        with pytest.raises(AvatarError, match="going down"):
            list(blocks)
    assert avatar.num_streams == 1


@pytest.mark.parametrize("has_ended", [True, False])
@pytest.mark.parametrize("kind", ["actors", "pose", "audio_features"])
def test_who_finds_no_place_tries_again_with_all_that_was_sent(kind: str, has_ended: bool) -> None:
    """Two who speak would be sent away where one alone is served a moment later."""
    avatar, given = FakeAvatar(refuses_start=FULL, num_faulty=2), dict[str, np.ndarray]()
    sound = tone(2 * BLOCK)
    if kind == "actors":
        sound = np.stack([sound, sound / 2])
    if kind == "pose":
        given["pose"] = np.arange(24 * 2 * 2 * 3, dtype=np.uint8).reshape(24, 2, 2, 3)
    if kind == "audio_features":
        given["audio_features"] = np.ones((1, 5, 384, 24), np.float32)
    masks = [np.array([[1, 0]], bool), np.array([[0, 1]], bool)] if kind == "actors" else None
    with serving(avatar) as url:
        avatar.may_answer.clear()
        with Session(image=b"p", url=url, resume=True, actors=masks) as session:
            session.send(sound, **given)
            if has_ended:
                session.finish()
            sent = {name: array.copy() for name, array in given.items()}
            for array in (sound, *given.values()):
                array[:] = 0  # as a microphone fills one buffer again and again
            avatar.may_answer.set()
            if not has_ended:
                session.finish()
            assert [block.block for block in session] == [0, 1]
    *_, begun = [n for n, (_, tensors) in enumerate(avatar.requests) if "image" in tensors]
    served = [tensors for _, tensors in avatar.requests[begun:]]
    for name, array in sent.items():
        found = np.concatenate([t[name] for t in served if name in t])
        np.testing.assert_array_equal(found, array)
    name = "actor_audio" if kind == "actors" else "audio"
    heard = np.concatenate([t[name] for t in served if name in t], axis=-1)
    np.testing.assert_array_equal(np.atleast_2d(heard)[0], tone(2 * BLOCK))
    assert avatar.num_streams == 3


def test_waits_grow_and_a_block_begins_anew() -> None:
    """Clients would storm a server that is coming back; one that makes progress gives up."""
    tries, lost = Tries(), refusal(FULL)
    waits = [tries.wait_s(lost, 4, 0.1 * number) or 0.0 for number in range(8)]
    assert waits[0] <= 0.1 < waits[3] < waits[5] <= 2.0
    assert tries.wait_s(lost, 4, GIVE_UP_S + 1) is None
    assert (tries.wait_s(lost, 5, GIVE_UP_S + 1) or 9.0) <= 0.1


def test_words_tell_what_passes() -> None:
    """A wrong argument is nobody's to try again."""
    for words in (FULL, DRAINED, DEAD, "session 7 is not open; open it with START"):
        assert isinstance(refusal(words), UnavailableError)
    assert not isinstance(refusal("audio peaks at 300, wanted [-1, 1]"), UnavailableError)


def test_a_block_that_was_to_come_again_has_to_do_as_it_was() -> None:
    """A live session that loses its server then would get that number twice, and end."""
    ledger = Ledger(max_ahead=0)
    for number in range(2):
        ledger.received(block_of(number))
    ledger.interrupted(block=1)
    ledger.begin_anew()
    ledger.received(block_of(0))
    assert [block.block for block in ledger.blocks] == [0, 1, 2]
    assert [block.frame_index for block in ledger.blocks] == [0, 12, 24]


def block_of(number: int) -> Block:
    frames = np.zeros((12, 4, 6, 3), np.uint8)
    return Block(
        frames=frames,
        frame_index=12 * number,
        block=number,
        timings_ms={},
        latent=None,
        received_s=0.0,
    )
