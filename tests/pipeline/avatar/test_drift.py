"""Sessions that drift are seen, and re-anchored without a pause: on the demo's real network.

Its ring is short, so by itself it forgets a push within six blocks. What lasts here is a ring of
values that are no numbers, which are handed on for ever, and a memory that was made longer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.avatar.executor import AvatarExecutor
from pipeline.avatar.local import local_executor
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import AvatarRequest, Options
from pipeline.avatar.stage import Stage, StepSession
from pipeline.engines.base import Array
from pipeline.sessions.calls import LocalCalls
from pipeline.sessions.drift import Appearance, Distances
from tests.support.fake_executor import FakeReply

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "artifacts" / "demo"
LIMITS = Distances(colour=0.5, sharpness=0.15, identity=0.25)  # those of the configuration
PUSHED = 4  # the block at which a session is pushed away
STAGE = "dit_stage_0"


class PushedStage(Stage):
    """At block PUSHED all that the rings hold is multiplied by `factor`. From then on a block's
    values are mixed with those of the block before, where the ring still has that."""

    factor, memory = 1.0, 0.0
    calls = 0

    def step(self, session: int, block: int, *args: Any, **tensors: Any) -> Array:
        self.calls += 1
        latent = super().step(session, block, *args, **tensors)
        state = self.sessions[session]
        for step in state.steps:
            self._push(step, block, block - int(state.ring_start[0]))
        return latent

    def _push(self, step: StepSession, block: int, in_ring: int) -> None:
        slots, length = self.config.window_blocks, self.config.tokens_per_block
        for name, values in step.cache.items():
            if not name.startswith("cache_v"):
                continue
            ring = values[:, :, self.config.num_sink_tokens :]
            blocks = ring.reshape(*ring.shape[:2], slots, length, -1)
            if block == PUSHED:
                blocks *= self.factor
            elif block > PUSHED and in_ring and self.memory:
                now, before = blocks[:, :, in_ring % slots], blocks[:, :, (in_ring - 1) % slots]
                now += self.memory * (before - now)


@pytest.fixture(scope="module")
def executor() -> Iterator[AvatarExecutor]:
    executor = local_executor(DEMO, [[0, 1, 2, 3]])
    assert isinstance(executor.calls, LocalCalls)
    executor.calls.holders[STAGE].device.__class__ = PushedStage
    yield executor
    executor.stop()


def stream(
    executor: AvatarExecutor, num_blocks: int, *, reanchor: bool, factor: float, memory: float = 0.0
) -> tuple[list[Distances], AvatarOrchestrator, FakeReply]:
    """How far each block of a pushed session is from its first one."""
    assert isinstance(executor.calls, LocalCalls)
    stage = executor.calls.holders[STAGE].device
    assert isinstance(stage, PushedStage)
    stage.factor, stage.memory, stage.calls = factor, memory, 0
    limits = {"max_sessions": 1, "idle_timeout_s": 60}
    avatar = AvatarOrchestrator(
        executor.config, executor, drift_limits=LIMITS, reanchor=reanchor, **limits
    )
    speech = 0.1 * np.random.default_rng(0).standard_normal(num_blocks * 7680)
    opening = AvatarRequest(
        session=1,
        start=True,
        end=True,
        image=(ROOT / "examples" / "portrait.png").read_bytes(),
        prompt="a person talks",
        options=Options(sink_distance=30),
        audio=speech.astype(np.float32),
    )
    reply = FakeReply()
    avatar.submit(opening, reply)
    assert reply.wait(120) == ""
    avatar.executor.stop = lambda: None  # type: ignore[method-assign]
    avatar.stop()
    assert [block.block for block in reply.blocks] == list(range(num_blocks))
    assert stage.calls == num_blocks  # nothing was computed twice
    seen = [Appearance.of(block.latent) for block in reply.blocks]
    return [appearance.distances(seen[0]) for appearance in seen], avatar, reply


def test_numbers_that_are_none_last_until_a_session_is_re_anchored(
    executor: AvatarExecutor,
) -> None:
    """One overflow would leave no face for the rest of the talk."""
    for num_blocks, reanchor in ((9, False), (12, True)):
        distances, avatar, _ = stream(executor, num_blocks, reanchor=reanchor, factor=np.nan)
        far = [block for block, distance in enumerate(distances) if distance.identity == 10]
        assert far[0] == PUSHED + 1
        assert (avatar.counts.drifts, avatar.counts.reanchors) == (1, int(reanchor))
        if not reanchor:
            assert far[-1] == num_blocks - 1
        else:  # seen with block 5, when at most four more have begun
            assert far == list(range(far[0], far[-1] + 1))
            assert far[-1] <= PUSHED + 5
            assert max(distances[-1]) < 0.2


@pytest.mark.slow
def test_a_push_that_would_last_ends_when_a_session_is_re_anchored(
    executor: AvatarExecutor,
) -> None:
    """A network with a long memory would show another person for as long."""
    runs = {
        reanchor: stream(executor, 28, reanchor=reanchor, factor=-6.0, memory=0.97)
        for reanchor in (False, True)
    }
    for reanchor, (distances, avatar, _) in runs.items():
        assert (avatar.counts.drifts, avatar.counts.reanchors) == (1, int(reanchor))
        beyond = [block for block, d in enumerate(distances) if d.identity > LIMITS.identity]
        assert beyond[0] == PUSHED + 1
        assert beyond[-1] == 27 if not reanchor else beyond[-1] < 14
    pushed, healed = (runs[reanchor][0][14:] for reanchor in (False, True))
    assert min(d.identity for d in pushed) > 5 * max(d.identity for d in healed)


def test_a_session_that_is_left_alone_is_not_re_anchored(executor: AvatarExecutor) -> None:
    """Good sessions would lose their motion for nothing."""
    _, avatar, _ = stream(executor, 8, reanchor=True, factor=1.0)
    assert (avatar.counts.drifts, avatar.counts.reanchors) == (0, 0)
