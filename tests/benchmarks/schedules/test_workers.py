"""Ways to run stations on workers: every block passes every station in order, and the ideal."""

import threading

import pytest

from benchmarks.schedule_workers import (
    NUM_STATIONS,
    Visit,
    grouped,
    ideal,
    period_s,
    sleepers,
    ways,
)

WAYS = {f"{name}, {workers}": run for name, workers, run in ways()}


def recording(seen: list[tuple[int, int, str]]) -> list[Visit]:
    """Stations that check what they are given."""
    lock = threading.Lock()

    def station(number: int) -> Visit:
        def visit(block: int, given: object) -> tuple[int, int]:
            assert given == (None if number == 0 else (block, number - 1))
            with lock:
                seen.append((number, block, threading.current_thread().name))
            return block, number

        return visit

    return [station(number) for number in range(NUM_STATIONS)]


@pytest.mark.parametrize("way", WAYS)
def test_every_block_passes_every_station_in_order(way: str) -> None:
    """A way that skips or swaps work would look fast."""
    seen: list[tuple[int, int, str]] = []
    ends = WAYS[way](recording(seen), 9)
    assert len(ends) == 9
    assert ends == sorted(ends)
    for number in range(NUM_STATIONS):
        assert [block for n, block, _ in seen if n == number] == list(range(9))


def test_five_workers_are_five_threads() -> None:
    seen: list[tuple[int, int, str]] = []
    WAYS["timestep forcing, 5"](recording(seen), 3)
    assert len({thread for _, _, thread in seen}) == 5


def test_the_ideal_is_what_the_slowest_worker_allows() -> None:
    """Five alike on two workers: three to two. More cores than workers bring nothing."""
    alike = [1.0] * 5
    assert [ideal(alike, n) for n in (1, 2, 3, 4, 5)] == pytest.approx([1, 5 / 3, 2.5, 2.5, 5])
    assert ideal(alike, 5, cores=2) == 2
    assert ideal([1, 1, 1, 1, 4], 5) == 2
    assert ideal([3.0, 1.0], 2, cores=2, base_s=6.0) == 2  # the slower one; beside another line
    assert grouped(alike, 2) == [[1.0] * 3, [1.0] * 2]


def test_forcing_sleepers_take_the_slowest_and_one_worker_the_sum() -> None:
    """Without forcing the stages would wait for each other; the sleep is long beside the noise."""
    both = WAYS["sequential, 1"], WAYS["timestep forcing, 5"]
    alone, forced = (period_s(run(sleepers(0.02), 18)) for run in both)
    assert alone / forced > 3
