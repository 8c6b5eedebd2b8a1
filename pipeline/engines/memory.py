"""Memory of a session that outlives the process which fills it.

One process keeps it, another one of the same user maps it by its name and computes in it. When that
one dies, the next one maps it and finds what stood there. It is no file in any folder: it is freed
with the last process that keeps or maps it (memfd_create(2)).
"""

import mmap
import os
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.engines.base import Array, Buffers


class KeptMemory:
    """Kept as long as this object lives. Empty until somebody maps it."""

    def __init__(self) -> None:
        file = os.memfd_create("caches")
        weakref.finalize(self, os.close, file)
        self.name: Array = np.frombuffer(f"/proc/{os.getpid()}/fd/{file}".encode(), np.uint8)
        """uint8, for who maps it."""


class MappedMemory:
    """What `KeptMemory` of another process keeps, cut into arrays from its beginning on."""

    def __init__(self, name: Array) -> None:
        """OSError if nobody keeps it, or the system lets us not reach it."""
        self._file = os.open(name.tobytes(), os.O_RDWR | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._end = 0

    def arrays(self, wanted: Mapping[str, tuple[Any, Any]]) -> Buffers:
        """The next arrays, of shapes and element types. They hold what was written there before,
        and zeros at first."""
        types = {name: np.dtype((dtype, tuple(shape))) for name, (shape, dtype) in wanted.items()}
        size = sum(of.itemsize for of in types.values())
        if os.fstat(self._file).st_size < self._end + size:
            os.ftruncate(self._file, self._end + size)
        mapped = mmap.mmap(self._file, size, offset=self._end)
        self._end += -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        found: Buffers = {}
        at = 0
        for name, of in types.items():
            found[name] = np.ndarray(of.shape, of.base, mapped, at)
            at += of.itemsize
        return found
