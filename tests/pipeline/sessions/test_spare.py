"""A spare process takes the place of a dead one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from pipeline.engines.base import Arrays
from pipeline.sessions.calls import ModelLost, ProcessDied
from pipeline.sessions.spare import SparedCalls

PLACES, SPARE = ("stage_0", "stage_1"), "spare"
OWN = {"stage_0": (0, 1), "stage_1": (2, 3), "spare": None}


@dataclass
class Server:
    """Notes who was called, as long as he lives."""

    dead: set[str] = field(default_factory=set)
    unhealthy: set[str] = field(default_factory=set)
    called: list[tuple[Any, ...]] = field(default_factory=list)

    def _reach(self, process: str) -> None:
        if process in self.dead:
            raise ProcessDied(process, "its process has died")
        if process in self.unhealthy:
            raise ModelLost(f"{process} is not healthy")

    def steps_of(self, process: str) -> tuple[int, ...] | None:
        self._reach(process)
        return OWN[process]

    def open(self, session: int, tensors: Mapping[str, Arrays]) -> None:
        for process, given in tensors.items():
            self._reach(process)
            steps = given["steps"].tolist() if "steps" in given else None
            self.called.append(("open", process, steps))

    def reopen(self, process: str, session: int, tensors: Arrays, tick: int) -> None:
        self.open(session, {process: tensors})

    def step(self, process: str, session: int, tick: int, inputs: Arrays) -> None:
        self._reach(process)
        self.called.append(("step", process))


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def calls(server: Server) -> SparedCalls:
    fake: Any = server
    return SparedCalls(fake, PLACES, SPARE)


def where(calls: SparedCalls, server: Server, model: str) -> str:
    """Who makes a step of a model."""
    server.called.clear()
    calls.step(model, 1, 0, {})
    ((_, process),) = server.called
    return str(process)


def test_the_spare_stands_in_for_whoever_dies_and_then_for_the_next(
    calls: SparedCalls, server: Server
) -> None:
    """Roles have changed after the first death: what came back is the spare."""
    for model, dies, stands_in in (
        ("stage_1", "stage_1", "spare"),
        ("stage_0", "stage_0", "stage_1"),
        ("stage_1", "spare", "stage_0"),
        ("stage_1", "stage_0", "spare"),
    ):
        server.dead = {dies}
        with pytest.raises(ProcessDied):
            calls.step(model, 1, 0, {})
        assert where(calls, server, model) == stands_in
    server.dead = set()
    assert where(calls, server, "stage_0") == "stage_1"


def test_it_is_told_which_steps_are_meant(calls: SparedCalls, server: Server) -> None:
    """It would denoise from another noise level, and every frame be wrong."""
    tensors: dict[str, Arrays] = {"stage_0": {}, "stage_1": {}, "decoder": {}}
    calls.open(1, tensors)
    assert server.called == [
        ("open", "stage_0", [0, 1]),
        ("open", "stage_1", [2, 3]),
        ("open", "decoder", None),
    ]
    server.dead, server.called = {"stage_1"}, []
    with pytest.raises(ProcessDied):
        calls.open(2, {"stage_1": {}})
    calls.open(2, {"stage_1": {}})
    calls.reopen("stage_1", 1, {"text": np.zeros(1)}, 4)
    assert server.called == [("open", "spare", [2, 3])] * 2


def test_a_process_that_may_still_write_keeps_its_place(calls: SparedCalls, server: Server) -> None:
    """Two would write the same caches: one that Triton gave up may only stand still."""
    server.unhealthy = {"stage_1"}
    with pytest.raises(ModelLost):
        calls.step("stage_1", 1, 0, {})
    server.unhealthy = set()
    assert where(calls, server, "stage_1") == "stage_1"


def test_without_a_spare_that_lives_the_dead_one_is_waited_for(
    calls: SparedCalls, server: Server
) -> None:
    """Its sessions would be sent where nobody is."""
    server.dead = {"stage_0", "stage_1", "decoder"}
    for model in (*PLACES, "decoder"):  # the first one gets the spare
        with pytest.raises(ProcessDied):
            calls.step(model, 1, 0, {})
    server.dead = {"stage_0"}
    assert [where(calls, server, model) for model in (*PLACES, "decoder")] == [
        *("spare", "stage_1", "decoder")
    ]
