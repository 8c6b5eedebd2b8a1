"""How sessions end: held STARTs, clients that are gone, true reasons for whoever comes late."""

import time

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.sessions.endings import MAX_ENDINGS, Endings
from tests.support.fake_executor import FakeExecutor, FakeReply, request, submit, wait_until


def test_a_request_of_a_client_that_left_during_conditioning_is_not_made_final(
    avatar: AvatarOrchestrator, executor: FakeExecutor
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
    avatar: AvatarOrchestrator, executor: FakeExecutor
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


def test_a_held_start_is_final_when_its_session_has_ended(avatar: AvatarOrchestrator) -> None:
    """Its client would wait for it for ever."""
    held = FakeReply(is_held=True)
    avatar.submit(request(1, start=True), held)
    end = submit(avatar, 1, end=True, blocks=1)
    assert (end.wait(), held.wait()) == ("", "")
    assert not avatar.sessions


def test_a_held_session_is_not_idle_while_it_is_conditioned_or_owes_blocks(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """It has no other open request, and would be freed for its server's own slowness."""
    executor.start_gate.clear()
    held = FakeReply(is_held=True)
    avatar.submit(request(1, start=True, blocks=1), held)
    time.sleep(0.8)
    executor.start_gate.set()
    wait_until(lambda: len(held.blocks) == 1)
    assert "was idle for 0.5 s" in held.wait()


def test_a_quiet_session_hears_that_it_was_idle(avatar: AvatarOrchestrator) -> None:
    """ "Not open" would send its developer to look for a bug."""
    assert submit(avatar, 1, start=True).wait() == ""
    wait_until(lambda: not avatar.sessions)
    assert "session 1 was idle for 0.5 s" in submit(avatar, 1, blocks=1).wait()
    assert "session 7 is not open" in submit(avatar, 7, blocks=1).wait()


def test_every_request_that_meets_a_failing_session_hears_why(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """A paced client's next audio overtakes the cause: it is all that the client hears."""
    executor.close_gate.clear()
    executor.fail_at = (1, 1, 0)
    first = submit(avatar, 1, start=True, blocks=1)
    wait_until(lambda: 1 in avatar.sessions and avatar.sessions[1].phase.is_closing)
    late = submit(avatar, 1, blocks=1)
    assert late.wait() == "stage 1 broke"
    assert "is being freed, try again (stage 1 broke)" in submit(avatar, 1, start=True).wait()
    executor.close_gate.set()
    assert first.wait() == "stage 1 broke"
    assert submit(avatar, 1, blocks=1, end=True).wait() == "stage 1 broke"


def test_audio_behind_a_refused_start_hears_why_it_was_refused(avatar: AvatarOrchestrator) -> None:
    """Clients send on before START is answered; the last error is the one that they see."""
    avatar.refuse(1, "options is not JSON", FakeReply(), start=True, end=False)
    assert submit(avatar, 1, blocks=1).wait() == "options is not JSON"
    for session in (2, 3):
        assert submit(avatar, session, start=True).wait() == ""
    submit(avatar, 4, start=True)
    assert "all 2 sessions" in submit(avatar, 4, blocks=1).wait()
    assert submit(avatar, 5, start=True, image=b"bad").wait() != ""


def test_a_refused_start_of_an_open_session_does_not_harm_it(avatar: AvatarOrchestrator) -> None:
    """Somebody else's mistake would end it, or be told as its ending."""
    assert submit(avatar, 1, start=True).wait() == ""
    assert "is open already" in submit(avatar, 1, start=True, end=True).wait()
    avatar.refuse(1, "no picture", FakeReply(), start=True, end=True)
    assert submit(avatar, 1, blocks=1).wait() == ""


def test_start_right_after_end_is_told_to_wait_for_its_final(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """ "Open already" would make a client END what has ended."""
    executor.close_gate.clear()
    end = submit(avatar, 1, start=True, end=True, blocks=1)
    wait_until(lambda: 1 in avatar.sessions and avatar.sessions[1].phase.is_closing)
    assert "session 1 has ended" in submit(avatar, 1, blocks=1).wait()
    refused = submit(avatar, 1, start=True).wait()
    assert refused == "session 1 is ending; wait for the final response to its END"
    executor.close_gate.set()
    assert end.wait() == ""
    assert submit(avatar, 1, start=True).wait() == ""


def test_start_behind_end_hears_the_same_while_the_last_block_is_being_made(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """END pads a block, so this is the usual case; audio behind that START hears it, too."""
    executor.step_s = 0.1
    end = submit(avatar, 1, start=True, end=True, blocks=3)
    wait_until(lambda: 1 in avatar.sessions and avatar.sessions[1].phase.is_started)
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
