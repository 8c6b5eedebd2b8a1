"""Order and life of sessions on one device."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.engines.device_sessions import DeviceSessions, OutOfOrder
from pipeline.sessions.calls import in_turn


class Recorder:
    """A device that notes what is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def open(self, session: int, **tensors: Any) -> None:
        self.calls.append(("open", session))
        if tensors.get("broken"):
            raise ValueError("no memory")

    def step(self, session: int, block: int, **tensors: Any) -> Any:
        self.calls.append(("step", session, block))
        return tensors["value"] * 10

    def close(self, session: int) -> None:
        self.calls.append(("close", session))


@pytest.fixture
def device() -> Recorder:
    return Recorder()


@pytest.fixture
def sessions(device: Recorder) -> DeviceSessions:
    return DeviceSessions(device, "stage", max_sessions=2)


def test_blocks_that_arrive_out_of_order_run_in_order(
    sessions: DeviceSessions, device: Recorder
) -> None:
    """Two submitters keep a stage busy and may overtake each other."""
    sessions.open(1, {})

    def send(block: int) -> Any:
        return in_turn(lambda: sessions.step(1, block, {"value": block}))

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(send, block) for block in (2, 1, 0, 3)]
    assert [a.result(5) for a in answers] == [20, 10, 0, 30]
    assert device.calls[1:] == [("step", 1, b) for b in range(4)]


def test_a_block_that_comes_too_early_is_refused_and_changes_nothing(
    sessions: DeviceSessions, device: Recorder
) -> None:
    """It would be written into the place of the one before it."""
    sessions.open(1, {})
    with pytest.raises(OutOfOrder, match=r"^out of order: tick 1 came before tick 0$"):
        sessions.step(1, 1, {"value": 1})
    assert device.calls == [("open", 1)]
    assert sessions.step(1, 0, {"value": 1}) == 10


def test_a_block_that_comes_twice_is_refused(sessions: DeviceSessions) -> None:
    """It would be written into the cache twice."""
    sessions.open(1, {})
    assert sessions.step(1, 0, {"value": 1}) == 10
    with pytest.raises(RuntimeError, match="came twice"):
        sessions.step(1, 0, {"value": 1})


def test_blocks_waiting_for_their_turn_are_answered_when_the_session_closes(
    sessions: DeviceSessions,
) -> None:
    """Their sender would wait for ever."""
    sessions.open(1, {})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(in_turn, lambda: sessions.step(1, 5, {"value": 1}))
        time.sleep(0.05)
        assert not waiting.done()
        sessions.close(1)
        assert "not open" in str(waiting.exception(5))
    with pytest.raises(RuntimeError, match="not open"):
        sessions.step(1, 6, {"value": 1})


def test_the_session_limit_is_named_and_freed_by_close(sessions: DeviceSessions) -> None:
    """Caches are allocated per session: the device would run out of memory."""
    for session in (1, 2):
        sessions.open(session, {})
    with pytest.raises(RuntimeError, match="all 2 sessions"):
        sessions.open(3, {})
    sessions.close(1)
    sessions.open(3, {})


def test_a_session_that_fails_to_open_leaves_nothing(
    sessions: DeviceSessions, device: Recorder
) -> None:
    """Half-allocated caches would stay."""
    with pytest.raises(ValueError, match="no memory"):
        sessions.open(1, {"broken": True})
    assert device.calls == [("open", 1), ("close", 1)]
    sessions.open(1, {})


def test_close_all_frees_what_a_dead_caller_left(
    sessions: DeviceSessions, device: Recorder
) -> None:
    """Its successor would find every place taken, for ever."""
    for session in (1, 2):
        sessions.open(session, {})
    sessions.close_all()
    assert device.calls[-2:] == [("close", 1), ("close", 2)]
    sessions.open(3, {})


def test_what_fails_in_a_session_names_it_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Its lines could not be found among those of the others."""
    device = SimpleNamespace(open=lambda _: None, step=lambda *_: 1 / 0, close=lambda _: None)
    sessions = DeviceSessions(device, "dit_stage_1", 2)  # type: ignore[arg-type]
    sessions.open(4711, {})
    with pytest.raises(ZeroDivisionError):
        sessions.step(4711, 0, {})
    assert "dit_stage_1: session 4711 failed" in caplog.text
