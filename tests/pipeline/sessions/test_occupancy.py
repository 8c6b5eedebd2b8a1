"""How long something is in use."""

from pipeline.sessions.occupancy import Occupancy


def test_time_of_two_at_once_counts_once() -> None:
    """Two lanes wait for one model: it would be busy for more than the time there is."""
    now = [10.0]
    used = Occupancy(lambda: now[0])
    assert used.seconds == 0
    used.enter()
    now[0] = 11
    used.enter()
    assert used.seconds == 1  # what is not over yet counts
    now[0] = 13
    used.leave()
    now[0] = 14
    used.leave()
    now[0] = 20
    assert used.seconds == 4
    used.enter()
    now[0] = 21
    assert used.seconds == 5
