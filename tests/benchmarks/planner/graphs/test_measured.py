"""The simulation beside the real server: pipelines of models that sleep.

What a model spends on a block beside its sleep is measured first, on models that sleep alike. Then
unlike ones are predicted. The median interval is compared, which a busy machine moves least, and a
second and third try are allowed: a test machine does other things too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_orchestration import period
from benchmarks.planner.deployment import HOP_S
from benchmarks.planner.simulation import Station, backlog, simulate
from benchmarks.sleeping_repository import build, set_times
from deploy.server.local import LocalServer

pytestmark = pytest.mark.triton
WITHIN, TRIES = 0.03, 3
NUM_BLOCKS = {1: 20, 2: 12, 4: 9}  # of each session


def predicted_s(times: Sequence[float], sessions: int, visit_s: float) -> float:
    stations = [
        Station(name=str(i), seconds=s + visit_s, device=i, hop_s=HOP_S)
        for i, s in enumerate(times)
    ]
    return simulate(stations, backlog(sessions, 40)).period_s()


class Sleepers:
    """A server whose models sleep, and what a block costs them beside."""

    def __init__(self, repository: Path, server: LocalServer) -> None:
        self.repository, self.url = repository, server.grpc_url

    def measured_s(self, times: Sequence[float], sessions: int) -> float:
        set_times(self.repository, times)
        return float(np.median(period(self.url, sessions, NUM_BLOCKS[sessions])))

    def error(self, times: Sequence[float], sessions: int, visit_s: float) -> float:
        """Of the prediction, in the best of a few tries."""
        found = []
        for _ in range(TRIES):
            measured = self.measured_s(times, sessions)
            found.append(abs(predicted_s(times, sessions, visit_s) / measured - 1))
            if found[-1] <= WITHIN:
                break
        print(f"{times}, {sessions} sessions: {measured:.4f} s, off by {min(found):.1%}")
        return min(found)

    def visit_s(self, num_models: int, sleep_s: float) -> float:
        """What a block costs a model beside its sleep."""
        return max(self.measured_s((sleep_s,) * num_models, 1) - sleep_s, 0.0)


@contextmanager
def sleepers(folder: Path, num_models: int) -> Iterator[Sleepers]:
    repository = build(folder / "repository", [0.1] * num_models)
    with LocalServer(repository, log_dir=folder / "log") as server:
        yield Sleepers(repository, server)


def test_an_unequal_pipeline_takes_as_long_as_simulated(tmp_path: Path) -> None:
    """One stage and a decoder: the short form of the test below."""
    with sleepers(tmp_path, 2) as server:
        visit_s = server.visit_s(2, 0.1)
        assert visit_s < 0.02
        assert server.error((0.07, 0.12), 2, visit_s) <= WITHIN


@pytest.mark.slow
@pytest.mark.parametrize("num_models", [2, 3, 4, 5])
def test_pipelines_take_as_long_as_simulated(tmp_path: Path, num_models: int) -> None:
    """One to four stages with a decoder, unequal times, one to four sessions; and five models of
    which the first sleeps for all."""
    rising = tuple(0.06 + 0.02 * i for i in range(num_models))
    uneven = (0.14, *[0.05] * (num_models - 2), 0.12)
    with sleepers(tmp_path, num_models) as server:
        visit_s = server.visit_s(num_models, 0.1)
        cases = [(times, k) for times in (rising, uneven) for k in (1, 2, 4)]
        errors = {case: server.error(*case, visit_s) for case in cases}
    assert {case: error for case, error in errors.items() if error > WITHIN} == {}


@pytest.mark.slow
def test_a_pipeline_of_one_stage_takes_as_long_as_simulated(tmp_path: Path) -> None:
    """Its decoder does not sleep, so the stage is all there is."""
    with sleepers(tmp_path, 2) as server:
        visit_s = server.visit_s(2, 0.1)
        errors = [server.error((0.12, 0.0), sessions, visit_s) for sessions in (1, 2, 4)]
    assert max(errors) <= WITHIN
