"""Sessions outlive a model, on one that only counts."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from pipeline.engines.base import Array, Arrays
from pipeline.sessions import replay
from pipeline.sessions.calls import ModelLost
from pipeline.sessions.kept import keep_blocks
from pipeline.sessions.replay import ReplayedCalls

MODEL = "stage"


class Counting:
    """Holds the sum of what a session was given, and dies at chosen calls."""

    def __init__(self) -> None:
        self.sums: dict[int, int] = {}
        self.dies_at: set[int] = set()  # which of its steps, counted over all its lives
        self.steps = 0
        self.opens_that_fail = 0
        self.closed: list[int] = []

    def open(self, session: int, tensors: Mapping[str, Arrays]) -> None:
        if self.opens_that_fail:
            self.opens_that_fail -= 1
            raise ModelLost("stage is not healthy")
        self.sums[session] = 0

    def reopen(self, model: str, session: int, tensors: Arrays, tick: int) -> None:
        self.sums[session] = 0

    def step(self, model: str, session: int, tick: int, inputs: Arrays) -> Array:
        self.steps += 1
        if self.steps in self.dies_at:
            self.sums.clear()
        if session not in self.sums:
            raise ModelLost(f"session {session} is not open here")
        self.sums[session] += int(inputs["block"][0])
        return np.array([self.sums[session]])

    def close(self, session: int) -> None:
        self.closed.append(session)
        self.sums.pop(session, None)


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def calls(counting: Counting) -> ReplayedCalls:
    fake: Any = counting
    return ReplayedCalls(fake, {MODEL: keep_blocks(10)})


def summed(calls: ReplayedCalls, num_blocks: int) -> list[int]:
    made = [
        calls.step(MODEL, 1, block, {"block": np.array([block])}) for block in range(num_blocks)
    ]
    return [int(each[0]) for each in made if each is not None]


@pytest.mark.parametrize("dies_at", [{1}, {4}, {4, 6}, {4, 6, 9}])
def test_a_death_within_the_replay_begins_it_anew(
    calls: ReplayedCalls, counting: Counting, dies_at: set[int]
) -> None:
    """The session would end, though its model is back."""
    calls.open(1, {MODEL: {}})
    counting.dies_at = dies_at
    assert summed(calls, 6) == [0, 1, 3, 6, 10, 15]


def test_a_session_that_is_brought_back_is_closed_only_behind_it(
    calls: ReplayedCalls, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place would be given away, and the next one meet a model that is full."""
    is_reopening, may_end = threading.Event(), threading.Event()

    def reopen(model: str, session: int, tensors: Arrays, tick: int) -> None:
        is_reopening.set()
        may_end.wait(5.0)
        counting.sums[session] = 0

    monkeypatch.setattr(counting, "reopen", reopen)
    calls.open(1, {MODEL: {}})
    counting.dies_at = {1}
    with ThreadPoolExecutor(2) as pool:
        step = pool.submit(calls.step, MODEL, 1, 0, {"block": np.array([0])})
        assert is_reopening.wait(5.0)
        closing = pool.submit(calls.close, 1)
        with pytest.raises(TimeoutError):
            closing.result(0.1)
        may_end.set()
        closing.result(5.0)
        assert not counting.sums
        assert isinstance(step.exception(5.0), ModelLost)


def test_a_model_that_dies_again_and_again_ends_the_session(
    calls: ReplayedCalls, counting: Counting
) -> None:
    """A block that kills its model would do so for ever."""
    calls.open(1, {MODEL: {}})
    counting.dies_at = set(range(3, 1000))
    with pytest.raises(ModelLost):
        summed(calls, 6)
    assert counting.steps < 20


def test_a_start_that_meets_a_lost_model_tries_again(
    calls: ReplayedCalls, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had opened would be open already, or stay open for ever."""
    monkeypatch.setattr(replay, "OPEN_POLL_S", 0.001)
    counting.opens_that_fail = 3
    calls.open(1, {MODEL: {}})
    assert counting.closed == [1, 1, 1]
    assert summed(calls, 3) == [0, 1, 3]


def test_a_start_whose_model_stays_away_hears_so(
    calls: ReplayedCalls, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for ever."""
    monkeypatch.setattr(replay, "OPEN_POLL_S", 0.001)
    monkeypatch.setattr(replay, "RECOVERY_S", 0.05)
    counting.opens_that_fail = 1_000_000
    with pytest.raises(ModelLost, match="stage is not healthy"):
        calls.open(1, {MODEL: {}})
    assert not counting.sums
