"""How a model that holds sessions takes requests, on a stand-in for Triton's module."""

import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.pipeline.triton.conftest import END, START, Request, stage


def tick(number: int) -> np.ndarray:
    return np.array([number], np.int64)


def test_the_next_block_is_there_while_one_is_worked_on(serving: ModuleType, folder: Path) -> None:
    """The device idled for a millisecond between two blocks: an answer, a request, two copies."""
    model, let_go = stage(serving, folder), threading.Event()
    worked: list[int] = []

    def step(session: int, block: int) -> np.ndarray:
        assert let_go.wait(5)
        worked.append(block)
        return np.full(1, block)

    model.worker.device.step = step
    opening, *blocks = Request(7, flags=START), Request(7, tick=tick(0)), Request(7, tick=tick(1))
    for request in (opening, *blocks):
        request.sent_to(model)
    assert opening.response.error is None
    assert worked == []
    let_go.set()
    assert [int(block.response.outputs["latent"][0]) for block in blocks] == [0, 1]
    model.finalize()


def test_an_answer_is_out_before_the_next_block_begins(serving: ModuleType, folder: Path) -> None:
    """That block writes where this one has read: were the process to die then, this block could not
    be made again in the caches that outlive it."""
    model = stage(serving, folder)
    seen: list[str] = []

    def step(session: int, block: int) -> np.ndarray:
        seen.append(f"begun {block}")
        return np.full(1, block)

    class Slow(Request):
        def get_response_sender(self) -> Any:
            inner = super().get_response_sender()

            def send(response: Any, flags: int) -> None:
                time.sleep(0.02)
                seen.append(f"out {int(response.outputs['latent'][0])}")
                inner.send(response, flags)

            return SimpleNamespace(send=send)

    model.worker.device.step = step
    opening, *blocks = Request(7, flags=START), Slow(7, tick=tick(0)), Slow(7, tick=tick(1))
    for request in (opening, *blocks):
        request.sent_to(model)
    model.finalize()
    assert seen == ["begun 0", "out 0", "begun 1", "out 1"]


def test_what_is_queued_is_answered_before_a_model_ends(serving: ModuleType, folder: Path) -> None:
    """Whoever waits would wait for ever."""
    model = stage(serving, folder)
    model.worker.device.step = lambda session, block: np.full(1, block)
    opening, block, end = (
        Request(7, flags=START),
        Request(7, tick=tick(0)),
        Request(7, flags=END),
    )
    for request in (opening, block, end):
        request.sent_to(model)
    model.finalize()
    assert [request.response.error for request in (opening, block, end)] == [None] * 3


def test_a_block_that_fails_is_told_and_the_next_one_goes_on(
    serving: ModuleType, folder: Path
) -> None:
    """Else one session's fault would be the others' silence."""
    model = stage(serving, folder)
    model.worker.device.step = lambda session, block: np.full(1, 1 // block)
    opening, *blocks = Request(7, flags=START), Request(7, tick=tick(0)), Request(7, tick=tick(1))
    for request in (opening, *blocks):
        request.sent_to(model)
    errors = [block.response.error for block in blocks]
    assert errors[0] is not None
    assert errors[1] is None
    model.finalize()
