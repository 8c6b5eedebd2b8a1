"""Memory that outlives the process which fills it."""

import multiprocessing
import os
import signal
from typing import Any

import numpy as np
import pytest

from pipeline.engines.memory import KeptMemory, MappedMemory

WANTED = {"cache_k": ((3, 2), np.float32), "cache_v": ((5,), np.int64)}


def write_and_die(name: np.ndarray) -> None:
    memory = MappedMemory(name)
    for number in (1, 2):
        for array in memory.arrays(WANTED).values():
            array[...] = number
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_process_wrote_is_there_when_it_was_killed() -> None:
    """A session would come back to another past."""
    kept = KeptMemory()
    dying = multiprocessing.get_context("spawn").Process(target=write_and_die, args=(kept.name,))
    dying.start()
    dying.join(60)
    assert dying.exitcode == -signal.SIGKILL
    memory = MappedMemory(kept.name)
    for number in (1, 2):
        found = memory.arrays(WANTED)
        shapes: dict[str, Any] = {
            name: (array.shape, array.dtype.type) for name, array in found.items()
        }
        assert shapes == WANTED
        assert all((array == number).all() for array in found.values())
    assert all(not array.any() for array in memory.arrays(WANTED).values())


def test_it_is_free_when_nobody_holds_it() -> None:
    """Each session would leave its caches behind."""
    kept = KeptMemory()
    name, files = kept.name.copy(), len(os.listdir("/proc/self/fd"))
    arrays = MappedMemory(name).arrays(WANTED)
    del kept
    arrays["cache_v"][:] = 7  # still there for who computes in it
    del arrays
    assert len(os.listdir("/proc/self/fd")) == files - 1
    with pytest.raises(OSError, match="No such file"):
        MappedMemory(name)
