"""A block's stations, four denoising steps and the decoder, on 1 to 5 workers: how they may be run.

sequential        one worker takes a block through all stations, then the next block
lockstep          a worker for each group of stations; all hand on together, after the slowest
timestep forcing  the same workers, and each goes on as soon as there is a block for it

A worker is a thread. What stations do lets go of Python's lock: they sleep, or compute on a thread.
"""

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from benchmarks.schedule_streams import Avatar
from export.repository.placement import folded
from pipeline.avatar.stage import Stage
from pipeline.denoising.noise import block_noise

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


def ways() -> Iterator[tuple[str, int, Way]]:
    """Name, number of workers, and what runs the stations that way."""
    yield "sequential", 1, sequential
    for name, run in (("lockstep", lockstep), ("timestep forcing", forcing)):
        for workers in range(1, NUM_STATIONS + 1):
            yield name, workers, partial(_on_workers, run, workers)


def _on_workers(run: Any, workers: int, stations: Sequence[Visit], blocks: int) -> list[float]:
    ends: list[float] = run(grouped(stations, workers), blocks)
    return ends


def grouped(stations: Sequence[Any], workers: int) -> list[list[Any]]:
    """Neighbours share a worker."""
    return [[stations[i] for i in group] for group in folded(len(stations), workers)]


def ideal(times_s: Sequence[float], workers: int, cores: int | None = None) -> float:
    """The speed-up over one worker that nothing but the stations' own times allows; with so many
    `cores`, if stations compute."""
    slowest = max(sum(group) for group in grouped(times_s, workers))
    speed_up: float = sum(times_s) / slowest
    return speed_up if cores is None else min(speed_up, float(cores))


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


@contextmanager
def computing(avatar: Avatar, stages: Sequence[Stage], session: int) -> Iterator[list[Visit]]:
    """Stations that compute a session of the avatar: a stage of one thread for each step, and the
    decoder."""
    c, given = avatar.config, avatar.conditions()
    local, overall = (np.zeros(s, np.float32) for s in (c.audio_local_shape, c.audio_global_shape))
    distance = np.full(c.num_steps, c.sink_distance, np.int64)
    for stage in stages:
        stage.open(session, **given)
    avatar.decoder.open(session, given["motion"])

    def denoise(stage: Stage) -> Visit:
        def visit(block: int, latent: Any) -> Any:
            noise = block_noise(0, block, c.latent_shape) if latent is None else latent
            return stage.step(session, block, noise, local, overall, distance)

        return visit

    def decode(block: int, latent: Any) -> None:
        avatar.decoder.step(session, block, latent)

    yield [*map(denoise, stages), decode]
    for holder in (*stages, avatar.decoder):
        holder.close(session)


def measured(
    stations: Callable[[int], Any], blocks: int, repetitions: int
) -> dict[tuple[str, int], list[float]]:
    """Seconds per block of every way, once for each repetition; the ways take turns. `stations` is
    a context of the stations of a session with the number that it is called with."""
    found: dict[tuple[str, int], list[float]] = {}
    numbers = itertools.count(FIRST_SESSION)
    for _ in range(repetitions):
        for name, workers, run in ways():
            with stations(next(numbers)) as line:
                found.setdefault((name, workers), []).append(period_s(run(line, blocks)))
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
