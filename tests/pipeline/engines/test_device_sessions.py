"""Order and life of sessions on one device."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.engines.device_sessions import SessionWorker


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


def call(method: Any, *args: Any) -> queue.SimpleQueue[Any]:
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
    method(*args, answer.put)
    return answer


def test_blocks_that_arrive_out_of_order_run_in_order(
    worker: SessionWorker, device: Recorder
) -> None:
    """Two submitters keep a stage busy and may overtake each other."""
    call(worker.open, 1, {})
    answers = [call(worker.step, 1, block, {"value": block}) for block in (2, 1, 0, 3)]
    assert [a.get(timeout=5) for a in answers] == [20, 10, 0, 30]
    assert device.calls[1:] == [("step", 1, b) for b in range(4)]


def test_a_block_that_comes_twice_is_refused(worker: SessionWorker) -> None:
    """It would be written into the cache twice."""
    call(worker.open, 1, {})
    assert call(worker.step, 1, 0, {"value": 1}).get(timeout=5) == 10
    assert "came twice" in str(call(worker.step, 1, 0, {"value": 1}).get(timeout=5))


def test_blocks_waiting_for_their_turn_are_answered_when_the_session_closes(
    worker: SessionWorker,
) -> None:
    """Their sender would wait for ever."""
    call(worker.open, 1, {})
    waiting = call(worker.step, 1, 5, {"value": 1})
    assert call(worker.close, 1).get(timeout=5) is None
    assert "closed before block 5" in str(waiting.get(timeout=5))
    assert "not open" in str(call(worker.step, 1, 6, {"value": 1}).get(timeout=5))


def test_the_session_limit_is_named_and_freed_by_close(worker: SessionWorker) -> None:
    """Caches are allocated per session: the device would run out of memory."""
    for session in (1, 2):
        assert call(worker.open, session, {}).get(timeout=5) is None
    assert "all 2 sessions" in str(call(worker.open, 3, {}).get(timeout=5))
    call(worker.close, 1)
    assert call(worker.open, 3, {}).get(timeout=5) is None


def test_a_session_that_fails_to_open_leaves_nothing(
    worker: SessionWorker, device: Recorder
) -> None:
    """Half-allocated caches would stay."""
    assert "no memory" in str(call(worker.open, 1, {"broken": True}).get(timeout=5))
    assert device.calls == [("open", 1), ("close", 1)]
    assert call(worker.open, 1, {}).get(timeout=5) is None


def test_stop_closes_open_sessions(device: Recorder) -> None:
    """An unloaded model would keep its memory."""
    worker = SessionWorker(device, "stage", max_sessions=2)
    call(worker.open, 7, {}).get(timeout=5)
    worker.stop()
    assert device.calls[-1] == ("close", 7)


def test_an_answer_that_cannot_be_sent_does_not_end_the_thread(worker: SessionWorker) -> None:
    """Every session of the device would stand still."""

    def broken(result: Any) -> None:
        raise OSError("no shared memory")

    worker.open(1, {}, broken)
    assert call(worker.step, 1, 0, {"value": 1}).get(timeout=5) == 10


def test_close_all_frees_what_a_dead_caller_left(worker: SessionWorker, device: Recorder) -> None:
    """Its successor would find every place taken, for ever."""
    for session in (1, 2):
        assert call(worker.open, session, {}).get(timeout=5) is None
    assert call(worker.close_all).get(timeout=5) is None
    assert device.calls[-2:] == [("close", 1), ("close", 2)]
    assert call(worker.open, 3, {}).get(timeout=5) is None
