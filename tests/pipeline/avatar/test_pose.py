"""Which block follows which pose: by the order of requests, whatever the encoder's speed."""

from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.pose import MAX_WAITING_BYTES, Pose
from pipeline.avatar.request import ANY_BLOCK, Options
from tests.support.fake_executor import CONFIG, FakeExecutor, submit, wait_until

SIZE = CONFIG.video_frames_per_block
LATENT = CONFIG.latent_shape[1:]


@pytest.fixture
def posed(executor: FakeExecutor) -> Iterator[AvatarOrchestrator]:
    """The orchestrator of a server with an encoder of pose videos."""
    executor.takes_pose = True
    avatar = AvatarOrchestrator(CONFIG, executor, max_sessions=2, idle_timeout_s=9)
    yield avatar
    executor.pose_gate.set()
    avatar.stop()


def frames(count: int, grey: int) -> np.ndarray:
    return np.full((count, 4, 4, 3), grey, np.uint8)


def followed(executor: FakeExecutor, session: int = 1) -> dict[int, float]:
    """Block -> the pose that the last stage saw."""
    stage = executor.num_stages - 1
    return {
        block: float(pose.mean())
        for (at, who, block), pose in executor.poses.items()
        if (at, who) == (stage, session)
    }


def test_every_stage_sees_a_blocks_pose_and_no_other(
    posed: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """A body would move with another word. Frames come in pieces of any length."""
    greys = np.repeat([10, 20, 30], SIZE)
    video = np.stack([frames(1, int(grey))[0] for grey in greys])
    submit(posed, 1, start=True).wait()
    for begin in range(0, len(video), 7):
        submit(posed, 1, pose=video[begin : begin + 7]).wait()
    assert submit(posed, 1, blocks=5, end=True).wait() == ""
    assert followed(executor) == {0: 10, 1: 20, 2: 30}
    assert {stage for stage, *_ in executor.poses} == set(range(executor.num_stages))
    assert [call[:2] for call in executor.pose_calls] == [(0, 0), (1, 1), (2, 2)]


def test_pose_begins_after_a_gap_with_what_its_request_completes(
    posed: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """Else it would depend on how fast blocks are made which of them it meets."""
    submit(posed, 1, start=True, blocks=2).wait()
    submit(posed, 1, blocks=1, pose=frames(SIZE + 5, 60)).wait()  # five frames of block 3
    submit(posed, 1, blocks=2).wait()
    submit(posed, 1, blocks=1, pose=frames(SIZE, 90), end=True).wait()
    assert followed(executor) == {2: 60, 3: 60 * 5 / SIZE, 5: 90}  # the rest of block 3 is black


def test_latents_are_taken_in_the_place_of_frames_by_any_server(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """Parity runs give what the release's encoder gave."""
    latents = np.stack([np.full(LATENT, 0.5, np.float32), np.full(LATENT, -0.5, np.float32)])
    assert submit(avatar, 1, start=True, blocks=3, pose_latents=latents, end=True).wait() == ""
    assert followed(executor) == {0: 0.5, 1: -0.5}


def test_a_block_waits_for_its_own_pose_alone(
    posed: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """It would be made without; or another session would wait for a pose that it does not have."""
    executor.pose_gate.clear()
    waiting = submit(posed, 1, start=True, blocks=2, pose=frames(SIZE, 7), end=True)
    assert submit(posed, 2, start=True, blocks=2, end=True).wait() == ""
    assert not waiting.blocks
    executor.pose_gate.set()
    assert waiting.wait() == ""
    assert followed(executor) == {0: 7}
    assert followed(executor, 2) == {}


def test_an_interruption_leaves_the_pose_where_it_is_on_the_videos_clock(
    posed: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """A block that is made again would stand still, or the encoder would lose its place."""
    live = Options(sink_distance=30, live=True)
    video = np.concatenate([frames(SIZE, 10 * (block + 1)) for block in range(4)])
    submit(posed, 1, start=True, options=live, pose=video).wait()
    submit(posed, 1, blocks=2).wait()
    executor.poses.clear()
    submit(posed, 1, blocks=1, interrupt=1).wait()
    assert followed(executor) == {1: 20}
    submit(posed, 1, interrupt=ANY_BLOCK).wait()
    submit(posed, 1, blocks=2, end=True).wait()
    assert followed(executor) == {1: 20, 2: 30, 3: 40}
    assert [block for _, block, _ in executor.pose_calls] == [0, 1, 2, 3]


def test_an_encoder_that_fails_ends_its_session_in_words(
    posed: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """The session would wait for ever, and every other one with it."""

    def broken(*_: object) -> np.ndarray:
        raise RuntimeError("the encoder broke")

    executor.encode_pose = broken  # type: ignore[method-assign]
    bad = submit(posed, 1, start=True, blocks=1, pose=frames(SIZE, 1))
    assert bad.wait() == "the encoder broke"
    executor.encode_pose = FakeExecutor.encode_pose.__get__(executor)  # type: ignore[method-assign]
    assert submit(posed, 2, start=True, blocks=1, pose=frames(SIZE, 1), end=True).wait() == ""


def test_what_cannot_be_followed_is_refused_and_changes_nothing(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """A pose that is dropped in silence looks as if the network did not listen."""
    submit(avatar, 1, start=True).wait()
    assert "POSE=1" in submit(avatar, 1, blocks=1, pose=frames(SIZE, 1)).wait()
    latent = np.zeros((1, *LATENT), np.float32)
    assert submit(avatar, 1, blocks=1, pose_latents=latent).wait() == ""
    assert "not one after the other" in submit(avatar, 1, pose=frames(SIZE, 1)).wait()
    assert submit(avatar, 1, blocks=1, end=True).wait() == ""
    wait_until(lambda: not avatar.sessions)


def test_frames_that_wait_are_bounded_in_bytes() -> None:
    """At full size twenty minutes of them are 24 GB."""
    pose = Pose(config=CONFIG, is_served=True)
    many = np.zeros((MAX_WAITING_BYTES // 3 + 3, 1, 1, 3), np.uint8)
    pose.take(many[: len(many) // 2], None, 0)
    with pytest.raises(ValueError, match="send no faster"):
        pose.check(many, None)
    pose.check(frames(SIZE, 1)[:, :1, :1], None)


def test_frames_that_wait_are_bounded_in_seconds(posed: AvatarOrchestrator) -> None:
    """A million blocks of a few bytes are gigabytes of what holds them."""
    many = np.zeros((1199 * CONFIG.fps, 1, 1, 3), np.uint8)
    submit(posed, 1, start=True, pose=many).wait()
    refused = submit(posed, 1, pose=many[: 5 * CONFIG.fps])  # the encoder has three blocks at most
    assert "pose for 5.00 s came while 119" in refused.wait()
    assert submit(posed, 1, end=True).wait() == ""


def test_a_block_is_not_put_together_of_frames_of_two_sizes() -> None:
    """They can't be stacked; an error there would end the control thread's turn."""
    pose = Pose(config=CONFIG, is_served=True)
    pose.take(frames(5, 1), None, 0)
    with pytest.raises(ValueError, match="8 x 4 pixels in the middle of a block of 4 x 4"):
        pose.check(np.zeros((3, 4, 8, 3), np.uint8), None)


def test_frames_are_encoded_only_a_little_ahead() -> None:
    """A pose video that was sent at once would occupy the encoder before anybody's first block."""
    pose = Pose(config=CONFIG, is_served=True)
    pose.take(frames(6 * SIZE, 1), None, 0)
    given = []
    while (found := pose.next_frames(next_block=1)) is not None:
        given.append(found[0])
        assert not pose.is_ready(found[0])
        pose.encoded(found[0], np.zeros(1))
    assert given == [0, 1, 2, 3]
