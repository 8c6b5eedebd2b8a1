"""The simulated pipeline where the answer is known without it."""

import itertools

import pytest

from benchmarks.planner.simulation import Run, Station, backlog, in_time, simulate

ALIKE, UNLIKE = (0.05,) * 5, (0.05, 0.08, 0.03, 0.07, 0.02)
HOP_S = 0.001


def line(*seconds: float, hop_s: float = 0.0) -> list[Station]:
    """Stations with a device each."""
    return [
        Station(name=f"station {i}", seconds=s, device=i, hop_s=hop_s)
        for i, s in enumerate(seconds)
    ]


def as_fast_as_it_goes(stations: list[Station], sessions: int = 1) -> Run:
    return simulate(stations, backlog(sessions, 40))


@pytest.mark.parametrize("times", [(0.1,), (0.1, 0.05), (0.05, 0.1, 0.02), ALIKE, UNLIKE])
@pytest.mark.parametrize("sessions", [1, 2, 4])
def test_the_period_is_the_slowest_station_s(times: tuple[float, ...], sessions: int) -> None:
    """However many stations and sessions: that is what a pipeline is for."""
    run = as_fast_as_it_goes(line(*times, hop_s=HOP_S), sessions)
    assert run.period_s() == pytest.approx(max(times))


def test_a_block_alone_passes_every_station_and_every_message() -> None:
    """Else first frames would be planned too soon."""
    run = as_fast_as_it_goes(line(*UNLIKE, hop_s=HOP_S))
    assert run.answers_s[0][0] == pytest.approx(sum(UNLIKE) + len(UNLIKE) * HOP_S)


def test_stations_that_share_a_device_take_the_sum_of_their_times() -> None:
    """Folding: one GPU for two steps has half the rate."""
    folded = [Station(name=str(i), seconds=0.05, device=i // 2) for i in range(4)]
    assert as_fast_as_it_goes(folded).period_s() == pytest.approx(0.1)


def test_the_bubble_ratio_is_what_the_slowest_leaves_idle() -> None:
    """1 - sum / (devices x slowest), and none where all are alike."""
    bubbles = as_fast_as_it_goes(line(*UNLIKE)).bubble_ratio()
    assert bubbles == pytest.approx(1 - sum(UNLIKE) / (5 * max(UNLIKE)))
    assert as_fast_as_it_goes(line(*ALIKE)).bubble_ratio() == pytest.approx(0)


def test_a_message_as_long_as_the_work_still_costs_no_period() -> None:
    """Two lanes: one block is worked on while the next is carried. With one it would be twice."""
    run = as_fast_as_it_goes(line(0.05, 0.05, hop_s=0.049))
    assert run.period_s() == pytest.approx(0.05, rel=0.02)
    longer = as_fast_as_it_goes(line(0.05, 0.05, hop_s=0.15))
    assert longer.period_s() == pytest.approx((0.05 + 0.15) / 2, rel=0.05)  # blocks come in pairs


def test_a_device_works_on_one_block_at_a_time() -> None:
    """Two at once would make rates that no GPU has."""
    folded = [Station(name=str(i), seconds=0.05, device=0) for i in range(3)]
    visits = sorted(as_fast_as_it_goes(folded, 3).visits, key=lambda visit: visit.began_s)
    assert len(visits) == 3 * 3 * 40
    for one, other in itertools.pairwise(visits):
        assert other.began_s >= one.ended_s - 1e-9


def test_sessions_share_a_pipeline_evenly() -> None:
    """With one that takes all places another's first block would wait for its backlog."""
    run = as_fast_as_it_goes(line(*ALIKE), 4)
    finished = [times[-1] for times in run.answers_s]
    assert max(finished) - min(finished) == pytest.approx(3 * 0.05)


def test_blocks_of_a_session_come_in_order() -> None:
    run = as_fast_as_it_goes(line(*UNLIKE), 3)
    assert all(list(times) == sorted(times) for times in run.answers_s)


def test_a_block_that_takes_longer_delays_those_behind_it_once() -> None:
    """The sink that is filled anew before block 4."""
    slow = Station(name="stage", seconds=0.1, device=0, extra_s={4: 0.3})
    answers = simulate([slow], backlog(1, 8)).answers_s[0]
    gaps = [b - a for a, b in itertools.pairwise(answers)]
    assert gaps == pytest.approx([0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1])


def test_nobody_is_late_while_there_is_time_and_all_are_beyond_it() -> None:
    """0.1 s of work for a block of 0.48 s: four sessions fit, five do not."""
    stations = line(0.1, 0.05)
    fits, does_not = (simulate(stations, in_time(k, 60, 0.48)) for k in (4, 5))
    assert fits.late_ratio(0.05, 0.48, settled=12) == 0
    assert does_not.late_ratio(0.05, 0.48, settled=12) > 0.3


def test_a_stall_at_the_start_is_told_and_not_counted_as_late() -> None:
    slow = Station(name="stage", seconds=0.1, device=0, extra_s={4: 0.8})
    run = simulate([slow], in_time(1, 30, 0.48))
    assert run.start_stall_s(0.48, 12) == pytest.approx(0.8)
    assert run.late_ratio(0.0, 0.48, settled=12) == 0
    assert run.late_ratio(0.0, 0.48) > 0


def test_nothing_to_simulate_is_said() -> None:
    with pytest.raises(ValueError, match="wanted stations, sessions and blocks"):
        simulate([], backlog(1, 1))
    with pytest.raises(ValueError, match="no steady state"):
        simulate(line(0.1), backlog(1, 3)).period_s()
