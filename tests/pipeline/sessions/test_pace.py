"""How fast a client's requests are taken."""

import pytest

from pipeline.sessions.pace import BURST, PER_S, Pace


def taken_s(pace: Pace, session: int, count: int, began_s: float = 1000.0) -> float:
    """Seconds until so many requests are taken that came at once."""
    now_s = began_s
    for _ in range(count):
        now_s += pace.delay_s(session, now_s)
    return now_s - began_s


def test_a_flood_is_taken_at_its_pace() -> None:
    """It would take the processors from those who talk."""
    assert taken_s(Pace(), 1, BURST + 1000) == pytest.approx(1000 / PER_S)


def test_a_voice_and_a_burst_wait_for_nothing() -> None:
    """Chunks of 20 ms, and a file's at once."""
    pace = Pace()
    assert taken_s(pace, 1, BURST) == pytest.approx(0, abs=1e-6)
    assert all(pace.delay_s(2, 0.02 * number) == 0 for number in range(1000))


def test_each_session_has_a_pace_of_its_own() -> None:
    """One that floods would slow down all others; and those that are gone need no memory."""
    pace = Pace()
    taken_s(pace, 1, 10 * BURST)
    assert taken_s(pace, 2, BURST) == pytest.approx(0, abs=1e-6)
    for session in range(3, 5000):
        pace.delay_s(session, 1000.0)
    assert len(pace._due_s) < 300
