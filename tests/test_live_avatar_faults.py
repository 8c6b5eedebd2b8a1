"""The orchestrator when clients, models and the wire misbehave."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from pipeline.endings import MAX_ENDINGS, Endings
from pipeline.live_avatar import LiveAvatar
from pipeline.session import MAX_BACKLOG_SECONDS, BlockFrames
from tests.fake_executor import CONFIG, FakeExecutor, FakeReply, request, submit, wait_until


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
    assert submit(avatar, 1, blocks=1).wait() == "stage 2 broke"
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
    assert "audio_features for 0.96 s" in submit(avatar, 2, blocks=2).wait()
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
    avatar.refuse(1, "the last request was bad", FakeReply(), start=False, end=True)
    assert "is being freed" in submit(avatar, 1, start=True).wait()
    executor.start_gate.set()
    assert gone.wait() == "the last request was bad"
    avatar.stop()


def test_a_request_of_a_client_that_left_during_conditioning_is_not_made_final(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """Nothing would be open any more by which the server could see it: the idle limit long."""
    avatar.idle_timeout_s = 60
    executor.start_gate.clear()
    gone = submit(avatar, 1, start=True)
    executor.start_gate.set()
    gone.is_cancelled = True
    assert "client is gone" in gone.wait(timeout=1)
    wait_until(lambda: not avatar.sessions, timeout=1)


def test_a_held_start_shows_that_its_client_is_gone_while_nothing_else_is_open(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """A killed client's place would stay taken for the idle limit."""
    avatar.idle_timeout_s = 60
    held = FakeReply(is_held=True)
    avatar.submit(request(1, start=True, blocks=2), held)
    wait_until(lambda: len(held.blocks) == 2)
    assert submit(avatar, 1, blocks=1).wait() == ""
    assert held.ended.empty()
    held.is_cancelled = True
    assert "client is gone" in held.wait(timeout=1)
    assert executor.closed == [1]


def test_a_held_start_is_final_when_its_session_has_ended(avatar: LiveAvatar) -> None:
    """Its client would wait for it for ever."""
    held = FakeReply(is_held=True)
    avatar.submit(request(1, start=True), held)
    end = submit(avatar, 1, end=True, blocks=1)
    assert (end.wait(), held.wait()) == ("", "")
    assert not avatar.sessions


def test_a_held_session_is_not_idle_while_it_is_conditioned_or_owes_blocks(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """It has no other open request, and would be freed for its server's own slowness."""
    executor.start_gate.clear()
    held = FakeReply(is_held=True)
    avatar.submit(request(1, start=True, blocks=1), held)
    time.sleep(0.8)
    executor.start_gate.set()
    wait_until(lambda: len(held.blocks) == 1)
    assert "was idle for 0.5 s" in held.wait()


def test_a_quiet_session_hears_that_it_was_idle(avatar: LiveAvatar) -> None:
    """ "Not open" would send its developer to look for a bug."""
    assert submit(avatar, 1, start=True).wait() == ""
    wait_until(lambda: not avatar.sessions)
    assert "session 1 was idle for 0.5 s" in submit(avatar, 1, blocks=1).wait()
    assert "session 7 is not open" in submit(avatar, 7, blocks=1).wait()


def test_every_request_that_meets_a_failing_session_hears_why(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """A paced client's next audio overtakes the cause: it is all that the client hears."""
    executor.close_gate.clear()
    executor.fail_at = (1, 1, 0)
    first = submit(avatar, 1, start=True, blocks=1)
    wait_until(lambda: 1 in avatar.sessions and avatar.sessions[1].closing)
    late = submit(avatar, 1, blocks=1)
    assert late.wait() == "stage 1 broke"
    assert "is being freed, try again (stage 1 broke)" in submit(avatar, 1, start=True).wait()
    executor.close_gate.set()
    assert first.wait() == "stage 1 broke"
    assert submit(avatar, 1, blocks=1, end=True).wait() == "stage 1 broke"


def test_audio_behind_a_refused_start_hears_why_it_was_refused(avatar: LiveAvatar) -> None:
    """Clients send on before START is answered; the last error is the one that they see."""
    avatar.refuse(1, "options is not JSON", FakeReply(), start=True, end=False)
    assert submit(avatar, 1, blocks=1).wait() == "options is not JSON"
    for session in (2, 3):
        assert submit(avatar, session, start=True).wait() == ""
    submit(avatar, 4, start=True)
    assert "all 2 sessions" in submit(avatar, 4, blocks=1).wait()
    assert submit(avatar, 5, start=True, image=b"bad").wait() != ""


def test_a_refused_start_of_an_open_session_does_not_harm_it(avatar: LiveAvatar) -> None:
    """Somebody else's mistake would end it, or be told as its ending."""
    assert submit(avatar, 1, start=True).wait() == ""
    assert "is open already" in submit(avatar, 1, start=True, end=True).wait()
    avatar.refuse(1, "no picture", FakeReply(), start=True, end=True)
    assert submit(avatar, 1, blocks=1).wait() == ""


def test_start_right_after_end_is_told_to_wait_for_its_final(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """ "Open already" would make a client END what has ended."""
    executor.close_gate.clear()
    end = submit(avatar, 1, start=True, end=True, blocks=1)
    wait_until(lambda: 1 in avatar.sessions and avatar.sessions[1].closing)
    assert "session 1 has ended" in submit(avatar, 1, blocks=1).wait()
    refused = submit(avatar, 1, start=True).wait()
    assert refused == "session 1 is ending; wait for the final response to its END"
    executor.close_gate.set()
    assert end.wait() == ""
    assert submit(avatar, 1, start=True).wait() == ""


def test_start_behind_end_hears_the_same_while_the_last_block_is_being_made(
    avatar: LiveAvatar, executor: FakeExecutor
) -> None:
    """END pads a block, so this is the usual case; audio behind that START hears it, too."""
    executor.step_s = 0.1
    end = submit(avatar, 1, start=True, end=True, blocks=3)
    wait_until(lambda: 1 in avatar.sessions and avatar.sessions[1].started)
    assert "is ending; wait for the final response" in submit(avatar, 1, start=True).wait()
    assert "is ending; wait for the final response" in submit(avatar, 1, blocks=1).wait()
    assert end.wait() == ""
    assert "is ending; wait for the final response" in submit(avatar, 1, blocks=1).wait()
    assert submit(avatar, 1, start=True).wait() == ""


def test_the_memory_of_endings_is_bounded() -> None:
    """A client that is refused for days would fill it."""
    endings = Endings()
    for session in range(MAX_ENDINGS + 10):
        endings.remember(session, "x" * 10_000)
    assert endings.of(MAX_ENDINGS + 9) == "x" * 1000
    assert "not open" in endings.of(9)
    assert endings.of(10) == "x" * 1000
