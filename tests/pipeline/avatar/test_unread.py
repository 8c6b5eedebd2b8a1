"""Blocks that nobody reads: they wait in the server's memory, so no more are made."""

import time

import numpy as np
import pytest

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import parse_request
from pipeline.sessions import control
from tests.support.fake_executor import CONFIG, submit, wait_until

BLOCK_S = CONFIG.video_frames_per_block / CONFIG.fps


def stays(avatar: AvatarOrchestrator, session: int) -> int:
    """Blocks that were delivered, once none has come for a while."""
    before, since = -1, time.monotonic()
    while time.monotonic() < since + 0.3:
        if (now := avatar.sessions[session].next_delivery) != before:
            before, since = now, time.monotonic()
    return before


def test_a_client_that_says_what_it_reads_is_never_far_ahead_of_it(
    avatar: AvatarOrchestrator,
) -> None:
    """600 s of sound in one request would be 400 MB of frames for a reader that sleeps."""
    avatar.unread_blocks = 8
    avatar.idle_timeout_s = 60
    burst = submit(avatar, 1, start=True, blocks=40, received=0)
    wait_until(lambda: 1 in avatar.sessions)
    assert stays(avatar, 1) == 8
    submit(avatar, 1, received=5)
    assert stays(avatar, 1) == 13
    submit(avatar, 1, received=1000)  # more than it got is all that it got
    assert stays(avatar, 1) == 21
    last = submit(avatar, 1, end=True, received=21)
    wait_until(lambda: len(burst.blocks) >= 29)
    assert not last.blocks


def test_a_client_that_never_says_is_taken_to_read_at_real_time(
    avatar: AvatarOrchestrator,
) -> None:
    """It must not stop for ever, nor fill the memory."""
    avatar.unread_blocks = 4
    burst = submit(avatar, 1, start=True, end=True, blocks=7)
    began = time.monotonic()
    assert burst.wait() == ""
    assert time.monotonic() - began == pytest.approx(2 * BLOCK_S, abs=0.3)
    assert len(burst.blocks) == 7


def test_a_session_that_waits_for_its_reader_takes_no_turns_of_others(
    avatar: AvatarOrchestrator,
) -> None:
    """Its share of the stations is theirs."""
    avatar.unread_blocks = 4
    avatar.idle_timeout_s = 60
    submit(avatar, 1, start=True, blocks=40, received=0)
    wait_until(lambda: 1 in avatar.sessions)
    assert stays(avatar, 1) == 4
    other = submit(avatar, 2, start=True, end=True, blocks=4)
    assert other.wait() == ""
    assert avatar.sessions[1].next_delivery == 4


def test_a_reader_that_has_stopped_is_told_and_gives_its_place_back(
    avatar: AvatarOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold a place for as long as its connection lasts."""
    monkeypatch.setattr(control, "UNREAD_S", 0.5)
    avatar.unread_blocks = 4
    avatar.idle_timeout_s = 60
    stopped = submit(avatar, 1, start=True, blocks=40, received=0)
    assert "4 blocks wait unread" in stopped.wait()
    wait_until(lambda: not avatar.sessions)


@pytest.mark.parametrize("value", [[-1], [1, 2], []])
def test_what_is_no_number_of_blocks_is_refused_in_words(value: list[int]) -> None:
    """Nobody knows what was meant."""
    inputs = {"received": np.array(value, np.int64)}
    with pytest.raises(ValueError, match=r"received is .*, wanted one integer, 0 or more"):
        parse_request(inputs, session=1, start=False, end=False, config=CONFIG)
