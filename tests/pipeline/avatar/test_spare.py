"""A spare stage takes over in mid-stream, and nobody who watches can tell."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from pipeline.avatar.executor import DECODER, SPARE, AvatarExecutor
from pipeline.avatar.kept import KeptCaches
from pipeline.avatar.local import local_executor
from pipeline.avatar.stage import Stage
from pipeline.engines.base import Array
from pipeline.engines.device_sessions import DeviceSessions
from pipeline.sessions.calls import LocalCalls, ModelLost, ProcessDied
from pipeline.sessions.kept import DECODER_BLOCKS, keep_blocks
from pipeline.sessions.replay import ReplayedCalls
from pipeline.sessions.spare import SparedCalls
from tests.pipeline.avatar.test_kept import eventful
from tests.pipeline.sessions.mortal_calls import MortalCalls

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
T = TypeVar("T")


class DyingCalls(MortalCalls):
    """Who is lost is dead for certain, and says what it was."""

    def steps_of(self, model: str) -> list[int] | None:
        return self.inner.holders[model].device.steps  # type: ignore[attr-defined, no-any-return]

    def _lossy(self, model: str, call: Callable[[], T]) -> T:
        try:
            return super()._lossy(model, call)
        except ModelLost as lost:
            if model in self.away:
                raise ProcessDied(model, str(lost)) from None
            raise


@pytest.fixture(scope="module")
def executor() -> Iterator[AvatarExecutor]:
    executor = local_executor(DEMO, [[0, 1], [2, 3]], sends_sink=True)
    assert isinstance(executor.calls, LocalCalls)
    executor.calls.holders[SPARE] = DeviceSessions(Stage(DEMO, None), SPARE, 4, copies=True)
    yield executor
    executor.stop()


def talked(executor: AvatarExecutor, *dies: tuple[str, int]) -> tuple[list[Array], list[Any]]:
    """Latents of a talk in which processes die, and who was opened anew."""
    mortal: Any = DyingCalls(executor.calls)  # type: ignore[arg-type]
    mortal.at = list(dies)
    keeps = {**dict.fromkeys(executor.stages, KeptCaches), DECODER: keep_blocks(DECODER_BLOCKS)}
    calls = ReplayedCalls(SparedCalls(mortal, executor.stages, SPARE), keeps)
    spared = AvatarExecutor(executor.config, executor.stages, DEMO, calls, sends_sink=True)
    spared.stop = lambda: None  # type: ignore[method-assign]  # the models are wanted again
    return eventful(spared), mortal.reopened


@pytest.mark.long
def test_frames_are_those_of_an_undisturbed_run_whoever_makes_them(
    executor: AvatarExecutor,
) -> None:
    """The second stage dies, then the first, then who stood in for the second."""
    stages = executor.stages
    wanted, nobody = talked(executor)
    found, back = talked(executor, (stages[1], 2), (stages[0], 5), (SPARE, 8))
    assert nobody == []
    assert back == [(SPARE, 2), (stages[1], 5), (stages[0], 8)]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stage_without_steps_wants_them_of_each_session() -> None:
    """It would denoise nothing, and say nothing."""
    stage = Stage(DEMO, None)
    motion, text = np.zeros(1, np.float32), np.zeros((1, 160, 64), np.float32)
    for steps in (None, np.array([4])):
        with pytest.raises(ValueError, match=r"wanted some of 0\.\.3"):
            stage.open(1, motion, text, steps=steps)
    stage.warm_up()
