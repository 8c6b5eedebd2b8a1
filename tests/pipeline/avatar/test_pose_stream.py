"""Pose on the demo preset's real graphs: made again, brought back after a death, or not there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.avatar.executor import DECODER, POSE, AvatarExecutor
from pipeline.avatar.local import local_executor
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.pose import KeptPose
from pipeline.avatar.pose_encoder import CLIP_BLOCKS
from pipeline.avatar.request import AvatarRequest, Options
from pipeline.avatar.sink_cache import exact_blocks
from pipeline.engines.base import Array
from pipeline.sessions.calls import LocalCalls
from pipeline.sessions.kept import DECODER_BLOCKS, keep_blocks
from pipeline.sessions.replay import ReplayedCalls
from tests.pipeline.avatar.test_redo import BLOCK, LOOK_AHEAD, Talk, sound
from tests.pipeline.sessions.mortal_calls import MortalCalls
from tests.support.fake_executor import FakeReply

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "artifacts" / "demo"
STAGES = ("dit_stage_0", "dit_stage_1")
SIZE, NUM_BLOCKS = 12, 7
VIDEO = np.random.default_rng(5).integers(0, 256, (NUM_BLOCKS * SIZE, 40, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def executor() -> Iterator[AvatarExecutor]:
    executor = local_executor(DEMO, [[0, 1], [2, 3]], takes_pose=True)
    yield executor
    executor.stop()


def stream(executor: AvatarExecutor, *dies: tuple[str, int], **pose: Any) -> tuple[Any, Any]:
    """Latents of a session, one of whose models dies at a tick; and what was brought back."""
    assert isinstance(executor.calls, LocalCalls)
    mortal = MortalCalls(executor.calls)
    mortal.at = list(dies)
    exact = keep_blocks(exact_blocks(executor.config, 2))
    keeps = {**dict.fromkeys(STAGES, exact), DECODER: keep_blocks(DECODER_BLOCKS)}
    keeps[POSE] = lambda opening: KeptPose(opening=opening, most=CLIP_BLOCKS)  # type: ignore[assignment]
    calls = ReplayedCalls(mortal, keeps)  # type: ignore[arg-type]
    config = executor.config
    replayed = AvatarExecutor(config, STAGES, DEMO, calls, sends_sink=True, takes_pose=True)
    avatar = AvatarOrchestrator(config, replayed, max_sessions=1, idle_timeout_s=60)
    reply = FakeReply()
    opening = AvatarRequest(
        session=1,
        start=True,
        end=True,
        image=(ROOT / "examples" / "portrait.png").read_bytes(),
        prompt="a person talks",
        options=Options(sink_distance=30),
        audio=sound(0, NUM_BLOCKS),
        **pose,
    )
    avatar.submit(opening, reply)
    ended = reply.wait(120)
    replayed.stop = lambda: None  # type: ignore[method-assign]
    avatar.stop()
    assert ended == ""
    return [block.latent for block in reply.blocks], mortal.reopened


@pytest.fixture(scope="module")
def undisturbed(executor: AvatarExecutor) -> list[Array]:
    return stream(executor, pose=VIDEO)[0]  # type: ignore[no-any-return]


def test_a_pose_of_zeros_is_no_pose_and_a_video_is_seen(
    executor: AvatarExecutor, undisturbed: list[Array]
) -> None:
    """What a session without one feeds to the network is the release's zeros."""
    zeros = np.zeros((NUM_BLOCKS, *executor.config.latent_shape[1:]), np.float32)
    without, _ = stream(executor)
    for one, other in zip(without, stream(executor, pose_latents=zeros)[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(without, undisturbed, strict=True))


@pytest.mark.parametrize(
    ("model", "tick"),
    [(POSE, 6), *(pytest.param(*at, marks=pytest.mark.slow) for at in ((POSE, 3), (STAGES[1], 5)))],
)
def test_frames_after_a_death_are_those_of_an_undisturbed_run(
    executor: AvatarExecutor, undisturbed: list[Array], model: str, tick: int
) -> None:
    """A pose encoder begins anew in the middle of a clip, or a stage is fed no pose again."""
    latents, reopened = stream(executor, (model, tick), pose=VIDEO)
    assert [lost for lost, _ in reopened] == [model]
    for one, other in zip(latents, undisturbed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_block_made_again_follows_the_same_pose(executor: AvatarExecutor) -> None:
    """It would stand still, or the encoder would count its frames twice."""
    wanted, dropped = sound(0), sound(1)
    redone = 2
    dropped[: redone * BLOCK + LOOK_AHEAD] = wanted[: redone * BLOCK + LOOK_AHEAD]

    def talk(change: bool) -> list[Array]:
        speaker = Talk(executor)
        speaker.send(pose=VIDEO)
        first = dropped if change else wanted
        made = [speaker.say(first, block).latent for block in range(redone + 1)]
        if change:
            made[-1] = speaker.again(wanted, redone).latent
        made += [speaker.say(wanted, block).latent for block in range(redone + 1, 5)]
        executor_stop, executor.stop = executor.stop, lambda: None  # type: ignore[method-assign]
        speaker.end()
        executor.stop = executor_stop  # type: ignore[method-assign]
        return made

    for one, other in zip(talk(change=False), talk(change=True), strict=True):
        np.testing.assert_array_equal(one, other)
