"""A block's stations, four denoising steps and the decoder, on 1 to 5 workers: how they may be run.

sequential        one worker takes a block through all stations, then the next block
lockstep          a worker for each group of stations; all hand on together, after the slowest
timestep forcing  the same workers, and each goes on as soon as there is a block for it
joint window      Rolling Forcing's own: one station denoises all blocks that are under way, and the
                  decoder is the second, on the same worker or on another

A worker is a thread. What stations do lets go of Python's lock: they sleep, or compute on a thread.
"""

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from export.repository.placement import folded

NUM_STATIONS = 5
FIRST_SESSION = 100
"""Those below are others'."""
FILLED = 6
"""Blocks until every worker has one, and the rings are full."""
Visit = Callable[[int, Any], Any]
"""A station: takes a block's number and what the station before made."""
Way = Callable[[Sequence[Visit], int], list[float]]
"""Runs stations over so many blocks; when each was finished."""


def sequential(stations: Sequence[Visit], blocks: int) -> list[float]:
    """When each block was finished."""
    ends = []
    for block in range(blocks):
        given = None
        for station in stations:
            given = station(block, given)
        ends.append(time.perf_counter())
    return ends


def lockstep(groups: Sequence[Sequence[Visit]], blocks: int) -> list[float]:
    """As `sequential`, with a worker for each group; it hands on when all others are ready, too."""
    barrier = threading.Barrier(len(groups))
    handed: list[Any] = [None] * (len(groups) + 1)
    ends: list[float] = []

    def work(number: int) -> None:
        for tick in range(blocks + len(groups) - 1):
            block = tick - number
            made = None
            if 0 <= block < blocks:
                made = handed[number]
                for station in groups[number]:
                    made = station(block, made)
            barrier.wait()
            handed[number + 1] = made
            if number == len(groups) - 1 and 0 <= block < blocks:
                ends.append(time.perf_counter())
            barrier.wait()

    _together(work, len(groups))
    return ends


def forcing(groups: Sequence[Sequence[Visit]], blocks: int) -> list[float]:
    """As `sequential`, with a worker for each group that takes what its queue has. A queue holds
    one block, as on the server: else a worker that was held up would race through many later."""
    queues: list[queue.Queue[Any]] = [queue.Queue(maxsize=1) for _ in groups[1:]]
    ends: list[float] = []

    def work(number: int) -> None:
        for block in range(blocks):
            made = queues[number - 1].get() if number else None
            for station in groups[number]:
                made = station(block, made)
            if number < len(queues):
                queues[number].put(made)
            else:
                ends.append(time.perf_counter())

    _together(work, len(groups))
    return ends


def _together(work: Callable[[int], None], workers: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Stations on so many workers. `stations` is a context of those of a session with the number
    that it is called with; `ideal` is the speed-up over sequential that their times allow."""

    name: str
    workers: int
    run: Way
    stations: Callable[[int], AbstractContextManager[Sequence[Visit]]]
    ideal: float


def ways() -> Iterator[tuple[str, int, Way]]:
    """Name, number of workers, and what runs the stations that way."""
    yield "sequential", 1, sequential
    for name, run in (("lockstep", lockstep), ("timestep forcing", forcing)):
        for workers in range(1, NUM_STATIONS + 1):
            yield name, workers, on_workers(run, workers)


def on_workers(run: Any, workers: int) -> Way:
    """`lockstep` or `forcing` with so many workers."""
    return partial(_on_workers, run, workers)


def _on_workers(run: Any, workers: int, stations: Sequence[Visit], blocks: int) -> list[float]:
    ends: list[float] = run(grouped(stations, workers), blocks)
    return ends


def grouped(stations: Sequence[Any], workers: int) -> list[list[Any]]:
    """Neighbours share a worker."""
    return [[stations[i] for i in group] for group in folded(len(stations), workers)]


def ideal(
    times_s: Sequence[float], workers: int, cores: int | None = None, base_s: float | None = None
) -> float:
    """The speed-up over `base_s` (None: over one worker) that nothing but the stations' own times
    allows; with so many `cores`, if stations compute."""
    whole: float = sum(times_s)
    period: float = max(sum(group) for group in grouped(times_s, workers))
    if cores is not None:
        period = max(period, whole / cores)
    return (whole if base_s is None else base_s) / period


def period_s(ends: Sequence[float]) -> float:
    """Mean interval of blocks while every worker has one: without those of the start and the end,
    when the others have the cores to themselves."""
    steady = ends[FILLED:-NUM_STATIONS]
    return (steady[-1] - steady[0]) / (len(steady) - 1)


def sleepers(sleep_s: float) -> list[Visit]:
    """Stations that sleep."""

    def visit(_block: int, _given: Any) -> None:
        time.sleep(sleep_s)

    return [visit] * NUM_STATIONS


def measured(
    compared: Sequence[Arrangement], blocks: int, repetitions: int
) -> dict[tuple[str, int], list[float]]:
    """Seconds per block of each, once for each repetition; they take turns."""
    found: dict[tuple[str, int], list[float]] = {}
    numbers = itertools.count(FIRST_SESSION)
    for _ in range(repetitions):
        for one in compared:
            with one.stations(next(numbers)) as line:
                seconds = period_s(one.run(line, blocks))
            found.setdefault((one.name, one.workers), []).append(seconds)
    return found


def station_times(stations: Sequence[Visit], blocks: int) -> list[float]:
    """Median seconds of each station, alone on the machine."""
    times = np.zeros((blocks, len(stations)))
    for block in range(blocks):
        given = None
        for i, station in enumerate(stations):
            began = time.perf_counter()
            given = station(block, given)
            times[block, i] = time.perf_counter() - began
    return [float(t) for t in np.median(times[FILLED:], axis=0)]
