"""Order and life of sessions on one device."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.engines.device_sessions import OutOfOrder, SessionWorker
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
def worker(device: Recorder) -> Iterator[SessionWorker]:
    worker = SessionWorker(device, "stage", max_sessions=2)
    yield worker
    worker.stop()


def test_blocks_that_arrive_out_of_order_run_in_order(
    worker: SessionWorker, device: Recorder
) -> None:
    """Two submitters keep a stage busy and may overtake each other."""
    worker.open(1, {})

    def send(block: int) -> Any:
        return in_turn(lambda: worker.step(1, block, {"value": block}).result(5))

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(send, block) for block in (2, 1, 0, 3)]
    assert [a.result(5) for a in answers] == [20, 10, 0, 30]
    assert device.calls[1:] == [("step", 1, b) for b in range(4)]


def test_a_block_that_comes_too_early_is_refused_and_changes_nothing(
    worker: SessionWorker, device: Recorder
) -> None:
    """It would be written into the place of the one before it."""
    worker.open(1, {})
    early = worker.step(1, 1, {"value": 1})
    with pytest.raises(OutOfOrder, match=r"^out of order: tick 1 came before tick 0$"):
        early.result(5)
    assert device.calls == [("open", 1)]
    assert worker.step(1, 0, {"value": 1}).result(5) == 10


def test_a_block_that_comes_twice_is_refused(worker: SessionWorker) -> None:
    """It would be written into the cache twice."""
    worker.open(1, {})
    assert worker.step(1, 0, {"value": 1}).result(5) == 10
    with pytest.raises(RuntimeError, match="came twice"):
        worker.step(1, 0, {"value": 1}).result(5)


def test_blocks_waiting_for_their_turn_are_answered_when_the_session_closes(
    worker: SessionWorker,
) -> None:
    """Their sender would wait for ever."""
    worker.open(1, {})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(in_turn, lambda: worker.step(1, 5, {"value": 1}).result(5))
        time.sleep(0.05)
        assert not waiting.done()
        assert worker.close(1).result(5) is None
        assert "not open" in str(waiting.exception(5))
    assert "not open" in str(worker.step(1, 6, {"value": 1}).exception(5))


def test_the_session_limit_is_named_and_freed_by_close(worker: SessionWorker) -> None:
    """Caches are allocated per session: the device would run out of memory."""
    for session in (1, 2):
        assert worker.open(session, {}).result(5) is None
    assert "all 2 sessions" in str(worker.open(3, {}).exception(5))
    worker.close(1)
    assert worker.open(3, {}).result(5) is None


def test_a_session_that_fails_to_open_leaves_nothing(
    worker: SessionWorker, device: Recorder
) -> None:
    """Half-allocated caches would stay."""
    assert "no memory" in str(worker.open(1, {"broken": True}).exception(5))
    assert device.calls == [("open", 1), ("close", 1)]
    assert worker.open(1, {}).result(5) is None


def test_stop_closes_open_sessions(device: Recorder) -> None:
    """An unloaded model would keep its memory."""
    worker = SessionWorker(device, "stage", max_sessions=2)
    worker.open(7, {}).result(5)
    worker.stop()
    assert device.calls[-1] == ("close", 7)


def test_an_answer_that_cannot_be_sent_does_not_end_the_thread(worker: SessionWorker) -> None:
    """Every session of the device would stand still."""

    def broken(result: Any) -> None:
        raise OSError("no shared memory")

    worker.open(1, {}).add_done_callback(broken)
    assert worker.step(1, 0, {"value": 1}).result(5) == 10


def test_close_all_frees_what_a_dead_caller_left(worker: SessionWorker, device: Recorder) -> None:
    """Its successor would find every place taken, for ever."""
    for session in (1, 2):
        assert worker.open(session, {}).result(5) is None
    assert worker.close_all().result(5) is None
    assert device.calls[-2:] == [("close", 1), ("close", 2)]
    assert worker.open(3, {}).result(5) is None


def test_what_fails_in_a_session_names_it_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Its lines could not be found among those of the others."""
    device = SimpleNamespace(open=lambda _: None, step=lambda *_: 1 / 0, close=lambda _: None)
    worker = SessionWorker(device, "dit_stage_1", 2)  # type: ignore[arg-type]
    worker.open(4711, {}).result()
    with pytest.raises(ZeroDivisionError):
        worker.step(4711, 0, {}).result()
    worker.stop()
    assert "dit_stage_1: session 4711 failed" in caplog.text
