"""A stage dies and its caches do not."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.avatar.executor import DECODER, AvatarExecutor
from pipeline.avatar.kept import KeptCaches
from pipeline.avatar.local import local_executor
from pipeline.avatar.session import AvatarSession
from pipeline.engines.base import Array
from pipeline.sessions.calls import LocalCalls
from pipeline.sessions.kept import DECODER_BLOCKS, keep_blocks
from pipeline.sessions.replay import ReplayedCalls
from tests.pipeline.avatar.test_redo import BLOCK, LOOK_AHEAD, Talk, sound
from tests.pipeline.sessions.mortal_calls import MortalCalls

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
Death = tuple[str, int]


def block(number: int, **more: int) -> dict[str, Array]:
    return {name: np.array([value]) for name, value in {"block": number, **more}.items()}


def numbers(arrays: Any) -> dict[str, int]:
    return {name: int(value[0]) for name, value in arrays.items() if name != "memory"}


def test_a_session_comes_back_with_what_held_last_and_nothing_is_run_again() -> None:
    """It would go on under the prompt of before, or wait for blocks that are there."""
    kept = KeptCaches({"text": np.array([0]), "motion": np.array([5])})
    assert kept.returning()[1] == 0
    said = {1: {"sink": 1}, 3: {"text": 33, "sink": 3}, 7: {"ring_start": 7}, 11: {"text": 11}}
    for tick in range(12):
        kept.add(tick, block(tick, latent=99, **said.get(tick, {})))
    opening, first = kept.returning()
    assert first == 12
    assert numbers(opening) == {"text": 11, "motion": 5, "sink": 3, "ring_start": 7}
    assert opening["memory"] is kept.memory.name
    assert kept.history() == []
    assert kept.num_bytes < 400


def test_the_newest_holds_whichever_lane_was_first() -> None:
    """A step is kept when its lane has its answer, and two lanes may take turns in that."""
    kept = KeptCaches({})
    for tick in (0, 2, 1, 4, 3):
        kept.add(tick, block(tick, text=tick))
    opening, first = kept.returning()
    assert (numbers(opening), first) == ({"text": 4}, 5)


LAYOUTS: dict[str, Any] = {
    "2 stages": {"steps": [[0, 1], [2, 3]], "sends_sink": True},
    "4 stages": {},
}


@pytest.fixture(
    scope="module", params=["2 stages", pytest.param("4 stages", marks=pytest.mark.slow)]
)
def executor(request: pytest.FixtureRequest) -> Iterator[AvatarExecutor]:
    executor = local_executor(DEMO, **LAYOUTS[request.param])
    yield executor
    executor.stop()


def mortal(executor: AvatarExecutor, *dies: Death, late: bool) -> AvatarExecutor:
    """The same models, which die at ticks."""
    assert isinstance(executor.calls, LocalCalls)
    calls: Any = MortalCalls(executor.calls)
    (calls.answers_never if late else calls.at).extend(dies)
    keeps = {**dict.fromkeys(executor.stages, KeptCaches), DECODER: keep_blocks(DECODER_BLOCKS)}
    made = AvatarExecutor(
        executor.config,
        executor.stages,
        DEMO,
        ReplayedCalls(calls, keeps),
        sends_sink=executor.sends_sink,
    )
    made.stop = lambda: None  # type: ignore[method-assign]  # the models are wanted again
    return made


def eventful(executor: AvatarExecutor, *, rebind: bool = False) -> list[Array]:
    """Latents of a talk with two new prompts and blocks that are made again. Block 4 re-calibrates
    the sink."""
    talk = Talk(executor, rebind=rebind)
    said, *others = (sound(seed, 9) for seed in range(3))
    for other in others:
        other[: 2 * BLOCK + LOOK_AHEAD] = said[: 2 * BLOCK + LOOK_AHEAD]
    made = [talk.say(said, 0), talk.say(said, 1, prompt="a sad person"), talk.say(said, 2)]
    made += [talk.again(other, 2) for other in others]
    made += [talk.say(said, number) for number in (3, 4, 5)]
    made += [talk.say(said, 6, prompt="a happy person smiles"), talk.say(said, 7)]
    talk.end()
    return [done.latent for done in made]


@pytest.fixture(scope="module")
def undisturbed(executor: AvatarExecutor) -> Callable[..., list[Array]]:
    """What it is without a death, by how the talk was."""
    runs: dict[Any, list[Array]] = {}

    def wanted(**how: Any) -> list[Array]:
        key = tuple(how.items())
        if key not in runs:
            runs[key] = eventful(mortal(executor, late=False), **how)
        return runs[key]

    return wanted


DEATHS = [
    [(0, 3), (1, 3)],  # both, with a block that is made again
    [(0, 6), (0, 6), (1, 9)],  # twice, as the sink is re-calibrated
    *(
        pytest.param(deaths, marks=pytest.mark.slow)
        for deaths in ([(0, 1)], [(1, 1)], [(1, 4), (1, 5)], [(0, 8)], [(1, 8)], [(0, 0), (1, 0)])
    ),
]


@pytest.mark.long
@pytest.mark.parametrize("late", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("deaths", DEATHS)
def test_a_talk_that_changes_its_mind_outlives_deaths(
    executor: AvatarExecutor, undisturbed: Any, deaths: list[tuple[int, int]], late: bool
) -> None:
    """A block that was begun, or was done and not heard of, has left its marks in the caches."""
    dies = [(executor.stages[stage], tick) for stage, tick in deaths]
    dying = mortal(executor, *dies, late=late)
    found = eventful(dying)
    assert len(dying.calls.calls.reopened) == len(dies)  # type: ignore[attr-defined]
    for one, other in zip(found, undisturbed(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("tick", [2, 3, 4, 5])
@pytest.mark.parametrize("stage", [0, 1])
def test_a_block_that_keeps_its_first_step_outlives_deaths(
    executor: AvatarExecutor, undisturbed: Any, stage: int, tick: int
) -> None:
    """The first stage is passed as a number there."""
    if executor.num_stages < executor.config.num_steps:
        pytest.skip("here the first step shares its stage")
    found = eventful(mortal(executor, (executor.stages[stage], tick), late=False), rebind=True)
    for one, other in zip(found, undisturbed(rebind=True), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.long
@pytest.mark.parametrize(
    "tick", [7, *(pytest.param(tick, marks=pytest.mark.slow) for tick in (4, 5, 6))]
)
def test_rings_that_began_anew_are_found_as_they_were(
    executor: AvatarExecutor, monkeypatch: pytest.MonkeyPatch, tick: int
) -> None:
    """Blocks would go to other slots, and a step that was left out would see what it lacks. Block 4
    re-anchors, and from 5 to 6 the last step is left out."""

    def begins(_: AvatarSession, number: int) -> Array | None:
        starts = {4: [4] * 4, 5: [4, 4, 4, 6], 6: [4, 4, 4, 7]}
        return np.array(starts[number]) if number in starts else None

    monkeypatch.setattr(AvatarSession, "take_ring_start", begins)
    last = partial(mortal, executor, late=False)
    wanted, found = eventful(last()), eventful(last((executor.stages[-1], tick + 2)))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.long
def test_caches_of_closed_sessions_are_freed(executor: AvatarExecutor) -> None:
    """A server would hold each session's for ever."""

    def held() -> int:
        links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return sum("caches" in link.name for link in links)

    before = held()
    talk = Talk(mortal(executor, (executor.stages[0], 1), late=False))
    talk.say(sound(0), 0)
    assert held() > before
    talk.say(sound(0), 1)
    talk.end()
    assert held() == before
