"""When the public model asks its models what they are, and what follows."""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pipeline.identity import examination
from pipeline.identity.examination import NOT_READY, Examination
from pipeline.identity.holders import Identity
from tests.pipeline.identity.test_holders import DECODER, PUBLIC, STAGES, changed

HOLDERS = {holder.model: holder for holder in (*STAGES, DECODER)}
Begin = Callable[..., Examination]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "SETTLE_S", 0.01)
    monkeypatch.setattr(examination, "POLL_S", 0.01)
    monkeypatch.setattr(examination, "GRACE_S", 0.3)


@pytest.fixture
def left() -> threading.Event:
    """Set when the public model is told to be ready no more."""
    return threading.Event()


@pytest.fixture
def begin(left: threading.Event) -> Iterator[Begin]:
    begun = []

    def start(ask: Callable[[str], Identity], *, with_server: bool = False) -> Examination:
        begun.append(Examination(PUBLIC, list(HOLDERS), ask))
        begun[-1].start(left.set, with_server=with_server)
        return begun[-1]

    yield start
    for one in begun:
        one.stop()
        assert not one._thread.is_alive()


def failing_until(moment_s: float, error: str) -> Callable[[str], Identity]:
    end = time.monotonic() + moment_s

    def ask(model: str) -> Identity:
        if model == "dit_stage_3" and time.monotonic() < end:
            raise RuntimeError(error)
        return HOLDERS[model]

    return ask


def test_sessions_start_when_all_models_agree(begin: Begin, left: threading.Event) -> None:
    begin(HOLDERS.__getitem__).await_agreement()
    assert not left.is_set()


def test_a_contradiction_refuses_every_session_and_is_told_once(
    begin: Begin, left: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """The model would stay ready and fail, or worse, session by session."""
    others = {holder.model: holder for holder in changed(1, max_sessions=1)}
    refused = begin(others.__getitem__)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^live_avatar: dit_stage_1 takes max_sessions 1"):
            refused.await_agreement()
    assert left.wait(1)
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == [
        "live_avatar refuses every session: dit_stage_1 takes max_sessions 1, live_avatar 2; "
        "they must be equal"
    ]


def test_models_that_cannot_be_asked_are_compared_too(left: threading.Event) -> None:
    """Encoders of another export: what the avatar hears is not what its stages know."""
    other = dataclasses.replace(DECODER, model="vae_encoder", files={"vae.safetensors": "dd" * 32})
    refused = Examination(PUBLIC, list(HOLDERS), HOLDERS.__getitem__, [other])
    refused.start(left.set, with_server=True)
    with pytest.raises(RuntimeError, match="vae_encoder is of another export"):
        refused.await_agreement()
    refused.stop()


def test_a_server_may_take_its_time_to_start(begin: Begin, left: threading.Event) -> None:
    """28 GB of weights load for minutes, behind a public model that is there at once."""
    waiting = begin(failing_until(0.5, f"dit_stage_3: {NOT_READY}"))
    with pytest.raises(RuntimeError, match="can be reached: dit_stage_3"):
        waiting.await_agreement()
    waiting.await_agreement()
    assert not left.is_set()


def test_a_model_that_did_not_come_with_the_server_will_not_come(
    begin: Begin, left: threading.Event
) -> None:
    """A misspelt stage: nothing else says so, and health would call it ready."""
    steps = iter([NOT_READY])

    def ask(model: str) -> Identity:
        raise RuntimeError(next(steps, "dit_stage_9: Model 'dit_stage_9' is not ready."))

    missing = begin(ask)
    assert left.wait(2)
    with pytest.raises(RuntimeError, match="can be reached: dit_stage_9"):
        missing.await_agreement()


def test_a_model_that_is_missing_when_the_server_is_ready_will_not_come_either(
    begin: Begin, left: threading.Event
) -> None:
    """The public model may be the last to load, and never hears that the server starts."""

    def ask(model: str) -> Identity:
        raise RuntimeError("dit_stage_9: Model 'dit_stage_9' is not ready.")

    missing = begin(ask, with_server=True)
    assert left.wait(2)
    with pytest.raises(RuntimeError, match="can be reached: dit_stage_9"):
        missing.await_agreement()


def test_a_model_that_is_loaded_later_is_waited_for(
    begin: Begin, left: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """After a fault models are loaded one by one, and the public one may be the first."""
    waiting = begin(failing_until(0.5, "dit_stage_3: Model 'dit_stage_3' is not ready."))
    with pytest.raises(RuntimeError, match="dit_stage_3"):
        waiting.await_agreement()
    time.sleep(0.3)
    assert "refuses every session: not all of its models can be reached" in caplog.text
    for _ in range(10):  # it asks once a second by now
        if not left.is_set() and waiting._has_verdict.wait(0.3):
            break
    waiting.await_agreement()
    assert not left.is_set()


def test_another_model_that_came_since_is_found_at_the_next_session(begin: Begin) -> None:
    """A stage that was loaded anew from another export."""
    agreed = begin(HOLDERS.__getitem__)
    agreed.await_agreement()
    agreed.check(HOLDERS.values())
    with pytest.raises(RuntimeError, match=r"^live_avatar: dit_stage_1 takes max_sessions 1"):
        agreed.check(changed(1, max_sessions=1))


def test_it_ends_with_its_model(begin: Begin) -> None:
    """A thread that stays would call a server that is gone; a client would wait for a verdict."""
    endless = begin(failing_until(60, NOT_READY))
    heard = []

    def wait() -> None:
        with pytest.raises(RuntimeError) as caught:
            endless.await_agreement()
        heard.append(str(caught.value))

    waiter = threading.Thread(target=wait)
    waiter.start()
    began = time.monotonic()
    endless.stop()
    waiter.join(1)
    assert len(heard) == 1
    assert time.monotonic() - began < 1
