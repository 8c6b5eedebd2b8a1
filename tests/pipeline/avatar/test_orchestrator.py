"""The orchestrator's decisions, on models that only count."""

import time
from typing import Any

import numpy as np

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import Options
from pipeline.sessions.drift import Distances
from tests.support.fake_executor import CONFIG, FakeExecutor, submit


def test_blocks_come_in_order_and_every_request_gets_its_own(avatar: AvatarOrchestrator) -> None:
    """A client could not tell which audio a frame belongs to."""
    first = submit(avatar, 1, start=True, blocks=3)
    second = submit(avatar, 1, blocks=2)
    last = submit(avatar, 1, end=True, blocks=1)
    assert [r.wait() for r in (first, second, last)] == ["", "", ""]
    assert [b.block for b in first.blocks] == [0, 1, 2]
    assert [b.block for b in second.blocks] == [3, 4]
    assert [b.frame_index for b in last.blocks] == [5 * 12]


def test_a_request_without_a_complete_block_is_final_at_once(avatar: AvatarOrchestrator) -> None:
    """A load generator waits for each request's end."""
    assert submit(avatar, 1, start=True).wait() == ""
    short = submit(avatar, 1, audio=np.zeros(100, np.float32))
    assert short.wait() == ""
    assert short.blocks == []


def test_frames_follow_the_audio_clock_to_the_last_sample(avatar: AvatarOrchestrator) -> None:
    """n samples give ceil(n / 640) frames: the video would drift from the sound."""
    reply = submit(avatar, 1, start=True, end=True, audio=np.zeros(7680 + 1000, np.float32))
    assert reply.wait() == ""
    assert [len(b.frames) for b in reply.blocks] == [12, 2]


def test_the_release_alignment_drops_the_first_frames(avatar: AvatarOrchestrator) -> None:
    """The option that reproduces the release's 3 frames of lead."""
    options = Options(drop_first_frames=3)
    reply = submit(avatar, 1, start=True, end=True, blocks=2, options=options)
    assert reply.wait() == ""
    assert [(b.frame_index, len(b.frames)) for b in reply.blocks] == [(0, 9), (9, 12)]


def test_every_stage_sees_blocks_in_order_and_works_at_the_same_time() -> None:
    """Without overlap the pipeline would be as slow as the sum of its stages."""
    executor = FakeExecutor(step_s=0.02)
    avatar = AvatarOrchestrator(CONFIG, executor, max_sessions=1, idle_timeout_s=5)
    try:
        began = time.perf_counter()
        assert submit(avatar, 1, start=True, end=True, blocks=20).wait() == ""
        wall = time.perf_counter() - began
    finally:
        avatar.stop()
    assert wall < 0.6 * 20 * 5 * 0.02
    for stage in range(4):
        blocks = [b for s, _, b in executor.calls if s == stage]
        assert sorted(blocks) == list(range(20))


def test_two_sessions_take_turns_block_by_block() -> None:
    """A long request of one client would starve the other."""
    executor = FakeExecutor(step_s=0.005)
    avatar = AvatarOrchestrator(CONFIG, executor, max_sessions=2, idle_timeout_s=5)
    try:
        long = submit(avatar, 1, start=True, end=True, blocks=40)
        short = submit(avatar, 2, start=True, end=True, blocks=5)
        assert short.wait() == ""
        assert len(long.blocks) < 25
        assert long.wait() == ""
    finally:
        avatar.stop()
    assert len(long.blocks) == 40


def test_where_all_models_want_the_same_cores_one_block_is_under_way() -> None:
    """Threads that wait awake would take three times as long."""
    executor = FakeExecutor(step_s=0.002)
    avatar = AvatarOrchestrator(
        CONFIG, executor, blocks_at_once=1, max_sessions=2, idle_timeout_s=5
    )
    try:
        replies = [submit(avatar, n, start=True, end=True, blocks=6) for n in (1, 2)]
        assert [reply.wait() for reply in replies] == ["", ""]
    finally:
        avatar.stop()
    begun = [executor.calls[i : i + 4] for i in range(0, 48, 4)]
    assert all(stages == [(n, *stages[0][1:]) for n in range(4)] for stages in begun)
    assert [stages[0][1] for stages in begun].count(2) == 6


def test_a_newcomers_first_block_does_not_wait_behind_a_backlog() -> None:
    """The pipeline's queues would be full of one session's blocks."""
    executor = FakeExecutor(step_s=0.01)
    avatar = AvatarOrchestrator(CONFIG, executor, max_sessions=2, idle_timeout_s=5)
    try:
        long = submit(avatar, 1, start=True, end=True, blocks=60)
        other = submit(avatar, 2, start=True, end=True, blocks=60)
        assert (long.wait(), other.wait()) == ("", "")
    finally:
        avatar.stop()
    entered = [session for stage, session, _ in executor.calls if stage == 0]
    assert entered[20:40].count(2) in range(8, 13)
    last_stage = [(s, b) for stage, s, b in executor.calls if stage == 3]
    assert last_stage.index((2, 10)) < last_stage.index((1, 20))


def test_the_sink_is_recalibrated_by_the_first_generated_frame(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """Every stage re-prefills when its own counter reaches the block, from block 0's latent."""
    reply = submit(avatar, 1, start=True, end=True, blocks=6)
    assert reply.wait() == ""
    assert sorted(executor.references) == [(s, 1, CONFIG.recalibrate_block) for s in range(4)]
    for reference in executor.references.values():
        np.testing.assert_array_equal(reference, reply.blocks[0].latent[:, :, :1])


def test_noise_depends_on_seed_and_block_alone(avatar: AvatarOrchestrator) -> None:
    """The same session would give another video when the server is busy."""
    alone = submit(avatar, 1, start=True, end=True, blocks=4, seed=7)
    assert alone.wait() == ""
    busy = submit(avatar, 1, start=True, end=True, blocks=4, seed=7)
    other = submit(avatar, 2, start=True, end=True, blocks=4, seed=8)
    assert (busy.wait(), other.wait()) == ("", "")
    for a, b, c in zip(alone.blocks, busy.blocks, other.blocks, strict=True):
        np.testing.assert_array_equal(a.latent, b.latent)
        assert np.abs(a.latent - c.latent).max() > 0.1


class Straying(FakeExecutor):
    """Latents that have a picture in them, which turns over at block 20."""

    def __init__(self) -> None:
        super().__init__()
        self.rings: list[tuple[int, int, int]] = []  # stage, block, ring_start

    def step(self, stage: int, session: int, tick: int, block: int, *args: Any, **tensors: Any):  # type: ignore[no-untyped-def]
        if "ring_start" in tensors:
            self.rings.append((stage, block, int(tensors["ring_start"][0])))
        picture = np.random.default_rng(0).standard_normal(CONFIG.latent_shape, np.float32)
        latent, sink = super().step(stage, session, tick, block, *args, **tensors)
        return latent * 0 + (picture if block < 20 else -picture), sink


def strayed(*, reanchor: bool, prompt_at: int | None = None) -> tuple[Straying, AvatarOrchestrator]:
    executor, limits = Straying(), Distances(colour=0.5, sharpness=0.15, identity=0.25)
    avatar = AvatarOrchestrator(
        *(CONFIG, executor),  # type: ignore[arg-type]
        **{"drift_limits": limits, "reanchor": reanchor, "max_sessions": 1, "idle_timeout_s": 5},
    )
    try:
        first = 40 if prompt_at is None else prompt_at
        assert submit(avatar, 1, start=True, blocks=first, prompt="a").wait() == ""
        assert submit(avatar, 1, end=True, blocks=60 - first, prompt="b").wait() == ""
    finally:
        avatar.stop()
    return executor, avatar


def test_every_stage_re_anchors_a_session_at_the_same_block_once() -> None:
    """A stage that goes on from its old ring would hand the drift on to the others."""
    executor, avatar = strayed(reanchor=True)
    (block,) = {ring_start for _, _, ring_start in executor.rings}
    assert sorted(executor.rings) == [(stage, block, block) for stage in range(4)]
    assert 20 < block < 40
    assert (avatar.counts.drifts, avatar.counts.reanchors) == (1, 1)


def test_drift_is_counted_and_nothing_else_unless_it_is_wanted() -> None:
    """Re-anchoring is visible to who looks closely."""
    executor, avatar = strayed(reanchor=False)
    assert executor.rings == []
    assert (avatar.counts.drifts, avatar.counts.reanchors) == (1, 0)


def test_a_new_prompt_may_show_something_else() -> None:
    """The picture that was asked for would be an alarm."""
    executor, avatar = strayed(reanchor=True, prompt_at=20)
    assert (avatar.counts.drifts, executor.rings) == (0, [])
