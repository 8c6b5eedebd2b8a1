"""The orchestrator when clients, models and the wire misbehave."""

import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.session import MAX_BACKLOG_SECONDS, AvatarSession
from pipeline.sessions.session import BlockFrames
from tests.support.fake_executor import CONFIG, FakeExecutor, FakeReply, request, submit, wait_until


def test_one_session_too_many_is_told_the_limit(avatar: AvatarOrchestrator) -> None:
    """It would wait in silence."""
    assert submit(avatar, 1, start=True).wait() == ""
    assert submit(avatar, 2, start=True).wait() == ""
    assert "all 2 sessions" in submit(avatar, 3, start=True).wait()
    assert submit(avatar, 1, end=True).wait() == ""
    assert submit(avatar, 3, start=True).wait() == ""


def test_a_session_is_free_everywhere_when_its_end_is_answered(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """The next START of a full server would be refused."""
    assert submit(avatar, 1, start=True, end=True, blocks=2).wait() == ""
    assert executor.closed == [1]
    assert not avatar.sessions


def test_a_failing_stage_ends_its_session_and_no_other(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """Every open request of the session must hear of it."""
    executor.fail_at = (2, 1, 3)
    broken = submit(avatar, 1, start=True, blocks=8)
    healthy = submit(avatar, 2, start=True, end=True, blocks=8)
    assert broken.wait() == "stage 2 broke"
    assert healthy.wait() == ""
    assert len(healthy.blocks) == 8
    assert submit(avatar, 1, blocks=1).wait() == "stage 2 broke"
    assert avatar._at_first == 0


def test_sound_that_cannot_be_cut_ends_its_session_and_no_other(
    avatar: AvatarOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control thread would stumble over it at every turn, and nobody would get a block."""
    next_sound = AvatarSession.next_sound

    def broken(session: AvatarSession) -> Any:
        if session.id == 1:
            raise IndexError("out of range")
        return next_sound(session)

    monkeypatch.setattr(AvatarSession, "next_sound", broken)
    assert "failed (IndexError)" in submit(avatar, 1, start=True, blocks=1).wait()
    healthy = submit(avatar, 2, start=True, end=True, blocks=3)
    assert healthy.wait() == ""
    assert len(healthy.blocks) == 3


def test_a_bad_image_fails_the_start_and_leaves_nothing(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """The slot would be lost."""
    assert submit(avatar, 1, start=True, image=b"bad").wait() == "image is not a picture"
    wait_until(lambda: not avatar.sessions)


def test_a_client_that_is_gone_frees_its_session(
    avatar: AvatarOrchestrator, executor: FakeExecutor
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
    avatar: AvatarOrchestrator, executor: FakeExecutor
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
    avatar = AvatarOrchestrator(CONFIG, executor, max_sessions=2, idle_timeout_s=5)
    reply = submit(avatar, 1, start=True, blocks=50)
    time.sleep(0.1)
    avatar.stop()
    assert reply.wait() == "the server is shutting down"
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_audio_and_features_do_not_mix(avatar: AvatarOrchestrator) -> None:
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

    def step(
        self, stage: int, session: int, tick: int, block: int, *given: Any, **tensors: Any
    ) -> Any:
        if stage == 1:
            with self._turn:
                self._turn.wait_for(lambda: self._next == block)
                self._next += 1
                self._turn.notify_all()
        latent = super().step(stage, session, tick, block, *given, **tensors)
        if (stage, block) == (0, 0):
            time.sleep(0.2)
        return latent


def test_blocks_that_overtake_a_held_up_one_do_not_take_the_next_stages_lanes() -> None:
    """Both lanes would wait for a block that nobody can bring: the server stands still."""
    avatar = AvatarOrchestrator(CONFIG, LateAnswer(), max_sessions=1, idle_timeout_s=5)
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
    avatar: AvatarOrchestrator, executor: FakeExecutor, call: str
) -> None:
    """The session would stay for ever, or the control thread would be dead."""
    executor.step_s = 0.1
    reply = BrokenWire(call)
    avatar.submit(request(1, start=True, end=True, blocks=3), reply)
    healthy = submit(avatar, 2, start=True, end=True, blocks=3)
    assert reply.wait() == "the server failed (OSError); its log says why"
    assert healthy.wait() == ""
    wait_until(lambda: not avatar.sessions)


def test_a_final_response_that_cannot_be_sent_frees_the_session(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """Its client waits for it and will not send another request."""
    avatar.submit(request(1, start=True), BrokenWire("finish"))
    wait_until(lambda: executor.closed == [1] and not avatar.sessions)
    assert submit(avatar, 1, start=True, end=True, blocks=1).wait() == ""


def test_a_flood_of_requests_does_not_hold_up_others(avatar: AvatarOrchestrator) -> None:
    """Their blocks and requests would wait behind all that one client asks."""

    class SlowWire(FakeReply):
        def cancelled(self) -> bool:
            time.sleep(0.002)
            return False

    assert submit(avatar, 2, start=True).wait() == ""
    flood = [SlowWire() for _ in range(500)]
    for reply in flood:
        avatar.submit(request(2), reply)
    assert submit(avatar, 1, start=True, end=True, blocks=10).wait() == ""
    assert flood[-1].ended.empty()
    assert flood[-1].wait() == ""


def test_conditioning_may_take_longer_than_the_idle_limit(
    avatar: AvatarOrchestrator, executor: FakeExecutor
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
    avatar = AvatarOrchestrator(CONFIG, FakeExecutor(), max_sessions=1, idle_timeout_s=60)
    assert submit(avatar, 1, start=True, blocks=1).wait() == ""
    assert "one after the other" in submit(avatar, 1, end=True, audio=np.ones(9, np.float32)).wait()
    wait_until(lambda: not avatar.sessions)
    avatar.stop()


def test_a_backlog_beyond_the_limit_is_refused_in_words(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """A client that sends hours at once would fill the memory of everybody."""
    executor.start_gate.clear()
    half = np.zeros(MAX_BACKLOG_SECONDS * CONFIG.sample_rate // 2, np.float32)
    first = submit(avatar, 1, start=True, audio=half)
    for _ in range(2):  # the block that is being encoded does not wait any more
        refused = submit(avatar, 1, audio=np.append(half, half[:48_000]))
        assert "at most 1200 s may wait" in refused.wait()
    other = submit(avatar, 2, start=True, blocks=2500)
    assert "audio_features for 0.96 s" in submit(avatar, 2, blocks=2).wait()
    assert "noise" in submit(avatar, 2, noise=np.zeros((2501, 1), np.float32)).wait()
    for reply in (first, other):
        reply.is_cancelled = True
    executor.start_gate.set()
    assert "client is gone" in first.wait()


def test_a_closing_session_cannot_be_opened_yet(executor: FakeExecutor) -> None:
    """Its caches are still there."""
    avatar = AvatarOrchestrator(CONFIG, executor, max_sessions=2, idle_timeout_s=5)
    executor.start_gate.clear()
    gone = submit(avatar, 1, start=True)
    avatar.refuse(1, "the last request was bad", FakeReply(), start=False, end=True)
    assert "is being freed" in submit(avatar, 1, start=True).wait()
    executor.start_gate.set()
    assert gone.wait() == "the last request was bad"
    avatar.stop()


def test_a_block_that_cannot_be_answered_fails_its_session(
    avatar: AvatarOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client would wait for as long as it stays connected."""

    def broken(*_: object) -> BlockFrames:
        raise MemoryError("no memory")

    monkeypatch.setattr(avatar, "answer", broken)
    told = submit(avatar, 1, start=True, end=True, blocks=1).wait()
    assert told == "the server has no memory for this now; try again later"
    wait_until(lambda: not avatar.sessions)


def test_frames_are_let_go_of_once_they_are_sent(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """In the server they are memory that both processes share."""
    frames: list[weakref.ref[np.ndarray]] = []

    def decode(session: int, tick: int, block: int, latent: np.ndarray) -> np.ndarray:
        made = FakeExecutor.decode(executor, session, tick, block, latent)
        frames.append(weakref.ref(made))
        return made

    executor.decode = decode  # type: ignore[method-assign]
    reply = submit(avatar, 1, start=True, end=True, blocks=4)
    assert reply.wait() == ""
    reply.blocks.clear()
    assert len(frames) == 4
    wait_until(lambda: all(frame() is None for frame in frames))
