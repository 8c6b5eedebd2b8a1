"""What waits to be said, and what a microphone's gate lets through."""

import numpy as np
import pytest

from live_avatar_client.live.gate import BEFORE_S, HOLD_S, Gate
from live_avatar_client.live.speech import MAX_QUEUED_S, PATIENCE_S, Speech, as_int16


def test_pieces_come_out_as_they_went_in_whatever_is_taken() -> None:
    """A lost sample moves everything that follows."""
    chance = np.random.default_rng(0)
    said = chance.integers(-30_000, 30_000, 50_000).astype(np.int16)
    queue = Speech()
    for piece in np.split(said, np.sort(chance.integers(0, 50_000, 40))):
        queue.append(piece, 0.0)
    taken = []
    while len(queue):
        taken.append(queue.take(int(chance.integers(1, 9000))))
    assert np.array_equal(np.concatenate(taken), said)
    assert len(queue.take(100)) == 0


def test_speech_is_ready_with_enough_when_whole_or_when_nothing_follows() -> None:
    """A word begun too soon is torn, one begun too late is slow."""
    queue = Speech()
    queue.append(np.ones(5000, np.int16), 10.0)
    assert queue.ready_s(7680, 9000) == 10.0 + PATIENCE_S
    assert queue.ready_s(4000, 5000) == 10.0
    queue.finish()
    assert queue.ready_s(7680, 9000) == 10.0
    queue.append(np.ones(10, np.int16), 11.0)
    assert queue.ready_s(7680, 9000) == 11.0 + PATIENCE_S


def test_a_block_is_enough_of_a_burst_and_not_of_a_trickle() -> None:
    """A synthesiser that is ahead stays ahead; a microphone never catches up."""
    for pace, ready_s in ((0.02, 10.0 + 4 * 0.02), (0.12, 10.0 + 4 * 0.12 + PATIENCE_S)):
        queue = Speech()
        for chunk in range(5):
            queue.append(np.ones(1920, np.int16), 10.0 + chunk * pace)
        assert queue.ready_s(7680, 11_000) == pytest.approx(ready_s)


def test_more_than_the_bound_is_refused_and_changes_nothing() -> None:
    """A synthesiser that never stops would fill the memory."""
    queue = Speech()
    queue.append(np.zeros(int(MAX_QUEUED_S - 1) * 16_000, np.int16), 0.0)
    with pytest.raises(ValueError, match=r"2\.0 s of speech came while 599\.0 s wait"):
        queue.append(np.zeros(32_000, np.int16), 0.0)
    queue.append(np.zeros(16_000, np.int16), 0.0)
    assert queue.seconds == 600


def test_audio_becomes_int16_without_wrapping() -> None:
    """+1.0 that wraps to -32768 is a crack."""
    audio = np.array([0, 1, -1, 0.5, 3.9], np.float32)
    assert as_int16(audio).tolist() == [0, 32767, -32768, 16384, 32767]
    buffer = np.ones(4, np.int16)
    kept = as_int16(buffer)
    buffer[:] = 0
    assert kept.tolist() == [1, 1, 1, 1], "a microphone fills one buffer again and again"


@pytest.mark.parametrize("chunk", [160, 640, 333, 16_000])
def test_the_gate_passes_speech_with_its_ends_and_nothing_else(chunk: int) -> None:
    """Word ends are soft; noise moves the mouth."""
    sound = np.full(3 * 16_000, 10, np.int16)
    sound[16_000:32_000] = 5000
    gate = Gate(-40.0)
    passed = [gate.pass_on(sound[i : i + chunk]) for i in range(0, len(sound), chunk)]
    through = np.concatenate(passed)
    assert np.count_nonzero(through == 5000) == 16_000
    before = np.flatnonzero(through == 5000)[0]
    assert before == round(BEFORE_S * 16_000)
    assert len(through) - before - 16_000 == pytest.approx(HOLD_S * 16_000, abs=160)
    assert not gate.is_open
