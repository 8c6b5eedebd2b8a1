"""Which blocks a viewer had to wait for."""

from pipeline.sessions.playback import Playback

S = 0.48


def test_a_first_block_is_never_late() -> None:
    """Every session would begin with an alarm."""
    assert not Playback().shows(S, came_s=0, now_s=100)


def test_a_block_behind_a_backlog_is_late_when_the_viewer_has_seen_all_before() -> None:
    """A film that halts would count as in time, or one that is far ahead as late."""
    seen = Playback()
    assert not seen.shows(S, came_s=0, now_s=1)
    assert not seen.shows(S, came_s=0, now_s=1 + S)
    assert not seen.shows(S, came_s=0, now_s=1.1 + S)  # well ahead of its turn
    assert seen.shows(S, came_s=0, now_s=1.01 + 3 * S)


def test_a_block_whose_sound_came_late_is_in_time() -> None:
    """A client that pauses would raise the alarm."""
    seen = Playback()
    seen.shows(S, came_s=0, now_s=1)
    assert not seen.shows(S, came_s=30, now_s=30.4)
    assert seen.shows(S, came_s=60, now_s=60.5)


def test_time_goes_on_from_a_late_block() -> None:
    """One halt would make all that follows late."""
    seen = Playback()
    seen.shows(S, came_s=0, now_s=0)
    assert seen.shows(S, came_s=0, now_s=5)
    assert not seen.shows(S, came_s=0, now_s=5 + S)


def test_after_an_interruption_the_next_block_is_a_first_one() -> None:
    """The viewer threw away what was to be played."""
    seen = Playback()
    seen.shows(S, came_s=0, now_s=0)
    seen.restart()
    assert not seen.shows(S, came_s=5, now_s=9)
