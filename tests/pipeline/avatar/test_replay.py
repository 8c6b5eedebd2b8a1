"""A stage or the decoder dies in mid-stream, and nobody who watches can tell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.avatar.executor import DECODER, AvatarExecutor
from pipeline.avatar.local import local_executor
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import AvatarRequest, Options
from pipeline.avatar.session import AvatarSession
from pipeline.avatar.sink_cache import exact_blocks
from pipeline.engines.base import Array
from pipeline.sessions.calls import LocalCalls
from pipeline.sessions.kept import DECODER_BLOCKS, keep_blocks
from pipeline.sessions.replay import ReplayedCalls
from tests.pipeline.sessions.mortal_calls import MortalCalls
from tests.support.fake_executor import FakeReply

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "artifacts" / "demo"
NUM_BLOCKS = 12
STAGES = ("dit_stage_0", "dit_stage_1")


def stream(
    executor: AvatarExecutor,
    *,
    dies: tuple[str, int] | None = None,
    blocks: int | None = None,
    length: int = NUM_BLOCKS,
    degraded: range = range(0),
) -> tuple[list[Array], list[Array], MortalCalls]:
    """Latents and frames of a session, one of whose models dies at a tick; some of its blocks are
    `degraded`."""
    assert isinstance(executor.calls, LocalCalls)
    config, mortal = executor.config, MortalCalls(executor.calls)
    kept = keep_blocks(exact_blocks(config, 2) if blocks is None else blocks)
    keeps = {**dict.fromkeys(STAGES, kept), DECODER: keep_blocks(DECODER_BLOCKS)}
    mortal.at = [dies] if dies else []
    replayed = AvatarExecutor(config, STAGES, DEMO, ReplayedCalls(mortal, keeps), sends_sink=True)
    avatar = AvatarOrchestrator(config, replayed, max_sessions=1, idle_timeout_s=60)
    avatar.leaves_out_step = lambda _, block: block in degraded  # type: ignore[method-assign]
    speech = (0.1 * np.random.default_rng(0).standard_normal(length * 7680)).astype(np.float32)
    reply = FakeReply()
    opening = AvatarRequest(
        session=1,
        start=True,
        end=True,
        image=(ROOT / "examples" / "portrait.png").read_bytes(),
        prompt="a person talks",
        options=Options(sink_distance=30),
        audio=speech,
    )
    avatar.submit(opening, reply)
    ended = reply.wait(120)
    _end(avatar)
    assert ended == ""
    return [b.latent for b in reply.blocks], [b.frames for b in reply.blocks], mortal


def _end(avatar: AvatarOrchestrator) -> None:
    """Its threads; the models are wanted again."""
    avatar.executor.stop = lambda: None  # type: ignore[method-assign]
    avatar.stop()


@pytest.fixture(scope="module")
def executor() -> Any:
    executor = local_executor(DEMO, [[0, 1], [2, 3]])
    yield executor
    executor.stop()


@pytest.fixture(scope="module")
def undisturbed(executor: AvatarExecutor) -> dict[int, tuple[list[Array], list[Array]]]:
    """By the stream's length, as they are wanted."""

    class Runs(dict[int, tuple[list[Array], list[Array]]]):
        def __missing__(self, length: int) -> tuple[list[Array], list[Array]]:
            latents, frames, mortal = stream(executor, length=length)
            assert mortal.reopened == []
            self[length] = latents, frames
            return self[length]

    return Runs()


@pytest.mark.parametrize("tick", [5, *(pytest.param(t, marks=pytest.mark.slow) for t in (0, 39))])
@pytest.mark.parametrize(
    "model", [STAGES[1], *(pytest.param(m, marks=pytest.mark.slow) for m in (STAGES[0], DECODER))]
)
def test_frames_after_a_death_are_those_of_an_undisturbed_run(
    executor: AvatarExecutor, undisturbed: Mapping[int, Any], model: str, tick: int
) -> None:
    """A viewer would see another person from there on, or the end."""
    length = max(NUM_BLOCKS, tick + 3)
    latents, frames, mortal = stream(executor, dies=(model, tick), length=length)
    ((lost, first),) = mortal.reopened
    assert lost == model
    kept = 6 if model == DECODER else 37
    assert first in (max(0, tick - kept), max(0, tick - kept) + 1)
    for found, wanted in zip((latents, frames), undisturbed[length], strict=True):
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("degraded", "tick", "length"),
    [(range(4, 8), 6, 11), pytest.param(range(2, 4), 42, 45, marks=pytest.mark.slow)],
)
def test_a_step_that_was_left_out_is_left_out_of_a_replay(
    executor: AvatarExecutor, degraded: range, tick: int, length: int
) -> None:
    """The step's ring would hold other blocks than before, in other slots. With tick 42 the blocks
    that were degraded are kept no more."""
    wanted, _, _ = stream(executor, length=length, degraded=degraded)
    dies = (STAGES[1], tick)
    latents, _, mortal = stream(executor, length=length, degraded=degraded, dies=dies)
    assert len(mortal.reopened) == 1
    for one, other in zip(latents, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_fewer_blocks_are_nearly_as_good(
    executor: AvatarExecutor, undisturbed: Mapping[int, Any]
) -> None:
    """At 14B what is exact takes half a gigabyte of each session."""
    length = 30
    _, frames, mortal = stream(executor, dies=("dit_stage_0", 22), blocks=6, length=length)
    assert mortal.reopened[0][1] in (15, 16)
    for block in range(length):
        difference = np.abs(frames[block].astype(int) - undisturbed[length][1][block].astype(int))
        assert difference.max() <= (3 if block >= 22 else 0)


@pytest.mark.slow
@pytest.mark.parametrize(("re_anchored", "dies"), [(9, 10), (3, 44)])
def test_a_session_that_was_re_anchored_comes_back_as_it_was(
    executor: AvatarExecutor, monkeypatch: pytest.MonkeyPatch, re_anchored: int, dies: int
) -> None:
    """Its blocks would go to the slots of before, and it would see what it had forgotten. The
    block that says so is among those kept, or not any more."""

    def begins(_: AvatarSession, block: int) -> Array | None:
        return np.full(4, block) if block == re_anchored else None

    monkeypatch.setattr(AvatarSession, "take_ring_start", begins)
    wanted, _, _ = stream(executor, length=dies + 3)
    found, _, mortal = stream(executor, dies=(STAGES[1], dies), length=dies + 3)
    ((_, first),) = mortal.reopened
    assert (first > re_anchored) is (dies == 44)
    np.testing.assert_array_equal(found, wanted)
