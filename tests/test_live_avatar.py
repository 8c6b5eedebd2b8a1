"""The orchestrator's decisions, on models that only count."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.live_avatar import LiveAvatar
from pipeline.request import Options
from pipeline.session import MAX_BACKLOG_SECONDS, BlockFrames
from tests.fake_executor import CONFIG, FakeExecutor, FakeReply, request


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture
def avatar(executor: FakeExecutor) -> Iterator[LiveAvatar]:
    avatar = LiveAvatar(CONFIG, executor, max_sessions=2, idle_timeout_s=0.5)
    yield avatar
    avatar.stop()


def submit(avatar: LiveAvatar, session: int, **fields: object) -> FakeReply:
    reply = FakeReply()
    avatar.submit(request(session, **fields), reply)  # type: ignore[arg-type]
    return reply


def wait_until(condition: object, timeout: float = 5.0) -> None:
    end = time.monotonic() + timeout
    while not condition() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.01)
    assert condition()  # type: ignore[operator]


def test_blocks_come_in_order_and_every_request_gets_its_own(avatar: LiveAvatar) -> None:
    """A client could not tell which audio a frame belongs to."""
    first = submit(avatar, 1, start=True, blocks=3)
    second = submit(avatar, 1, blocks=2)
    last = submit(avatar, 1, end=True, blocks=1)
    assert [r.wait() for r in (first, second, last)] == ["", "", ""]
    assert [b.block for b in first.blocks] == [0, 1, 2]
    assert [b.block for b in second.blocks] == [3, 4]
    assert [b.frame_index for b in last.blocks] == [5 * 12]


def test_a_request_without_a_complete_block_is_final_at_once(avatar: LiveAvatar) -> None:
    """A load generator waits for each request's end."""
    assert submit(avatar, 1, start=True).wait() == ""
    short = submit(avatar, 1, audio=np.zeros(100, np.float32))
    assert short.wait() == ""
    assert short.blocks == []


def test_frames_follow_the_audio_clock_to_the_last_sample(avatar: LiveAvatar) -> None:
    """n samples give ceil(n / 640) frames: the video would drift from the sound."""
    reply = submit(avatar, 1, start=True, end=True, audio=np.zeros(7680 + 1000, np.float32))
    assert reply.wait() == ""
    assert [len(b.frames) for b in reply.blocks] == [12, 2]


def test_the_release_alignment_drops_the_first_frames(avatar: LiveAvatar) -> None:
    """The option that reproduces the release's 3 frames of lead."""
    options = Options(drop_first_frames=3)
    reply = submit(avatar, 1, start=True, end=True, blocks=2, options=options)
    assert reply.wait() == ""
    assert [(b.frame_index, len(b.frames)) for b in reply.blocks] == [(0, 9), (9, 12)]


def test_every_stage_sees_blocks_in_order_and_works_at_the_same_time() -> None:
    """Without overlap the pipeline would be as slow as the sum of its stages."""
    executor = FakeExecutor(step_s=0.02)
    avatar = LiveAvatar(CONFIG, executor, max_sessions=1, idle_timeout_s=5)
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
    avatar = LiveAvatar(CONFIG, executor, max_sessions=2, idle_timeout_s=5)
    try:
        long = submit(avatar, 1, start=True, end=True, blocks=40)
        short = submit(avatar, 2, start=True, end=True, blocks=5)
        assert short.wait() == ""
        assert len(long.blocks) < 25
        assert long.wait() == ""
    finally:
        avatar.stop()
    assert len(long.blocks) == 40


def test_a_newcomers_first_block_does_not_wait_behind_a_backlog() -> None:
    """The pipeline's queues would be full of one session's blocks."""
    executor = FakeExecutor(step_s=0.01)
    avatar = LiveAvatar(CONFIG, executor, max_sessions=2, idle_timeout_s=5)
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
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """Every stage re-prefills when its own counter reaches the block, from block 0's latent."""
    reply = submit(avatar, 1, start=True, end=True, blocks=6)
    assert reply.wait() == ""
    assert sorted(executor.references) == [(s, 1, CONFIG.recalibrate_block) for s in range(4)]
    for reference in executor.references.values():
        np.testing.assert_array_equal(reference, reply.blocks[0].latent[:, :, :1])


def test_noise_depends_on_seed_and_block_alone(avatar: LiveAvatar) -> None:
    """The same session would give another video when the server is busy."""
    alone = submit(avatar, 1, start=True, end=True, blocks=4, seed=7)
    assert alone.wait() == ""
    busy = submit(avatar, 1, start=True, end=True, blocks=4, seed=7)
    other = submit(avatar, 2, start=True, end=True, blocks=4, seed=8)
    assert (busy.wait(), other.wait()) == ("", "")
    for a, b, c in zip(alone.blocks, busy.blocks, other.blocks, strict=True):
        np.testing.assert_array_equal(a.latent, b.latent)
        assert np.abs(a.latent - c.latent).max() > 0.1


def test_one_session_too_many_is_told_the_limit(avatar: LiveAvatar) -> None:
    """It would wait in silence."""
    assert submit(avatar, 1, start=True).wait() == ""
    assert submit(avatar, 2, start=True).wait() == ""
    assert "all 2 sessions" in submit(avatar, 3, start=True).wait()
    assert submit(avatar, 1, end=True).wait() == ""
    assert submit(avatar, 3, start=True).wait() == ""


def test_a_session_is_free_everywhere_when_its_end_is_answered(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """The next START of a full server would be refused."""
    assert submit(avatar, 1, start=True, end=True, blocks=2).wait() == ""
    assert executor.closed == [1]
    assert not avatar.sessions


def test_a_failing_stage_ends_its_session_and_no_other(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """Every open request of the session must hear of it."""
    executor.fail_at = (2, 1, 3)
    broken = submit(avatar, 1, start=True, blocks=8)
    healthy = submit(avatar, 2, start=True, end=True, blocks=8)
    assert broken.wait() == "stage 2 broke"
    assert healthy.wait() == ""
    assert len(healthy.blocks) == 8
    assert "not open" in submit(avatar, 1, blocks=1).wait()
    assert avatar._at_stage_0 == 0


def test_a_bad_image_fails_the_start_and_leaves_nothing(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """The slot would be lost."""
    assert submit(avatar, 1, start=True, image=b"bad").wait() == "image is not a picture"
    wait_until(lambda: not avatar.sessions)


def test_a_client_that_is_gone_frees_its_session(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """Within a second if a request is open, within the idle limit if none is."""
    executor.step_s = 0.05
    gone = submit(avatar, 1, start=True, blocks=100)
    idle = submit(avatar, 2, start=True)
    assert idle.wait() == ""
    gone.is_cancelled = True
    began = time.monotonic()
    wait_until(lambda: 1 not in avatar.sessions)
    assert time.monotonic() - began < 1.0
    wait_until(lambda: 2 not in avatar.sessions)
    assert time.monotonic() - began < 2.0
    assert sorted(executor.closed) == [1, 2]


def test_a_client_that_leaves_during_conditioning_leaks_nothing(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """Closing before the stages have opened would leave their caches behind."""
    executor.start_gate.clear()
    gone = submit(avatar, 1, start=True)
    gone.is_cancelled = True
    time.sleep(0.5)
    assert executor.closed == []
    executor.start_gate.set()
    wait_until(lambda: not avatar.sessions)
    assert executor.open == set()


def test_stop_answers_open_requests_and_ends_every_thread(executor: FakeExecutor) -> None:
    """A server that unloads the model would hang, its clients too."""
    before = set(threading.enumerate())
    executor.step_s = 0.02
    avatar = LiveAvatar(CONFIG, executor, max_sessions=2, idle_timeout_s=5)
    reply = submit(avatar, 1, start=True, blocks=50)
    time.sleep(0.1)
    avatar.stop()
    assert reply.wait() == "the server is shutting down"
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_audio_and_features_do_not_mix(avatar: LiveAvatar) -> None:
    """Their blocks would be numbered twice."""
    assert submit(avatar, 1, start=True, blocks=1).wait() == ""
    mixed = submit(avatar, 1, audio=np.zeros(7680, np.float32))
    assert "one after the other" in mixed.wait()
    assert submit(avatar, 1, end=True, blocks=1).wait() == ""


class LateAnswer(FakeExecutor):
    """Stage 1 works in order, as its worker does; stage 0's answer for block 0 comes late."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = threading.Condition()
        self._next = 0

    def step(self, stage: int, session: int, block: int, **tensors: Any) -> np.ndarray:
        if stage == 1:
            with self._turn:
                self._turn.wait_for(lambda: self._next == block)
                self._next += 1
                self._turn.notify_all()
        latent = super().step(stage, session, block, **tensors)
        if (stage, block) == (0, 0):
            time.sleep(0.2)
        return latent


def test_blocks_that_overtake_a_held_up_one_do_not_take_the_next_stages_lanes() -> None:
    """Both lanes would wait for a block that nobody can bring: the server stands still."""
    avatar = LiveAvatar(CONFIG, LateAnswer(), max_sessions=1, idle_timeout_s=5)
    reply = submit(avatar, 1, start=True, end=True, blocks=4)
    assert reply.wait(timeout=5) == ""
    assert [b.block for b in reply.blocks] == [0, 1, 2, 3]
    avatar.stop()


class BrokenWire(FakeReply):
    """Its calls named in `broken` fail, as when shared memory is full."""

    def __init__(self, *broken: str) -> None:
        super().__init__()
        self.broken = broken

    def send(self, block: BlockFrames) -> None:
        if "send" in self.broken:
            raise OSError("no shared memory")
        super().send(block)

    def finish(self) -> None:
        if "finish" in self.broken:
            raise OSError("no shared memory")
        super().finish()

    def cancelled(self) -> bool:
        if "cancelled" in self.broken:
            raise OSError("no shared memory")
        return super().cancelled()


@pytest.mark.parametrize("call", ["send", "cancelled"])
def test_an_answer_that_cannot_be_sent_fails_its_session_and_no_other(
    avatar: LiveAvatar, executor: FakeExecutor, call: str
) -> None:
    """The session would stay for ever, or the control thread would be dead."""
    executor.step_s = 0.1
    reply = BrokenWire(call)
    avatar.submit(request(1, start=True, end=True, blocks=3), reply)
    healthy = submit(avatar, 2, start=True, end=True, blocks=3)
    assert reply.wait() == "no shared memory"
    assert healthy.wait() == ""
    wait_until(lambda: not avatar.sessions)


def test_a_final_response_that_cannot_be_sent_frees_the_session(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """Its client waits for it and will not send another request."""
    avatar.submit(request(1, start=True), BrokenWire("finish"))
    wait_until(lambda: executor.closed == [1] and not avatar.sessions)
    assert submit(avatar, 1, start=True, end=True, blocks=1).wait() == ""


def test_conditioning_may_take_longer_than_the_idle_limit(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """The session would be gone before its client can say a word."""
    executor.start_gate.clear()
    reply = submit(avatar, 1, start=True)
    time.sleep(0.7)
    executor.start_gate.set()
    assert reply.wait() == ""
    time.sleep(0.25)
    assert submit(avatar, 1, end=True, blocks=1).wait() == ""


def test_an_end_that_is_refused_frees_the_session() -> None:
    """For Triton the sequence is over, so no other END can come."""
    avatar = LiveAvatar(CONFIG, FakeExecutor(), max_sessions=1, idle_timeout_s=60)
    assert submit(avatar, 1, start=True, blocks=1).wait() == ""
    assert "one after the other" in submit(avatar, 1, end=True, audio=np.ones(9, np.float32)).wait()
    wait_until(lambda: not avatar.sessions)
    avatar.stop()


def test_a_backlog_beyond_the_limit_is_refused_in_words(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """A client that sends hours at once would fill the memory of everybody."""
    executor.start_gate.clear()
    half = np.zeros(MAX_BACKLOG_SECONDS * CONFIG.sample_rate // 2, np.float32)
    first = submit(avatar, 1, start=True, audio=half)
    for _ in range(2):  # the block that is being encoded does not wait any more
        refused = submit(avatar, 1, audio=np.append(half, half[:48_000]))
        assert "at most 1200 s may wait" in refused.wait()
    other = submit(avatar, 2, start=True, blocks=2500)
    assert "audio_features for 0.48 s" in submit(avatar, 2, blocks=1).wait()
    assert "noise" in submit(avatar, 2, noise=np.zeros((2501, 1), np.float32)).wait()
    for reply in (first, other):
        reply.is_cancelled = True
    executor.start_gate.set()
    assert "client is gone" in first.wait()


def test_a_closing_session_cannot_be_opened_yet(executor: FakeExecutor) -> None:
    """Its caches are still there."""
    avatar = LiveAvatar(CONFIG, executor, max_sessions=2, idle_timeout_s=5)
    executor.start_gate.clear()
    gone = submit(avatar, 1, start=True)
    avatar.abort(1, "the last request was bad")
    assert "being closed" in submit(avatar, 1, start=True).wait()
    executor.start_gate.set()
    assert gone.wait() == "the last request was bad"
    avatar.stop()
