"""What every engine offers: a graph is bound to buffers once and run many times.

A loaded graph belongs to a process. A bound graph is that graph on one set of buffers: the caches
of a session are bound when it opens, and a run names only what changes. A cache that is bound as
input `cache_x` and as output `present_x` is the same memory, so the graph writes it in place. Every
other output has one buffer that is reused from run to run. (docs/design.md, Engines)
"""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipeline.engines.memory import MappedMemory

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
Buffers = dict[str, Any]
"""Named memory that graphs read and write: arrays on a CPU, `DeviceBuffer`s on a GPU."""


class LoadedGraph(ABC):
    """A graph, loaded once per process and shared by its sessions. One thread calls it at a time.

    `inputs` and `outputs` are name -> (shape, element type).
    """

    path: Path
    inputs: Mapping[str, tuple[Any, Any]]
    outputs: Mapping[str, tuple[Any, Any]]
    is_on_host: ClassVar[bool] = False  # whether it reads and writes arrays where they lie
    cache_bytes: int = 0
    """Of the memory that `new_buffers` gave and somebody still holds."""

    def new_buffers(self, *prefixes: str) -> Buffers:
        """Zeroed memory for every input whose name starts with one of `prefixes`."""
        wanted = self._named(prefixes)
        return self._counted({name: self.allocate(*wanted[name]) for name in wanted})

    def buffers_in(self, memory: "MappedMemory", *prefixes: str) -> Buffers:
        """As `new_buffers`, in memory that outlives this process, with what stands there already.
        ValueError where graphs read other memory than the host's."""
        if not self.is_on_host:
            raise ValueError(
                f"{self.path.name}: its buffers lie on a device and end with the process, wanted "
                "some on the host; set replay_blocks of live_avatar to a number"
            )
        return self._counted(memory.arrays(self._named(prefixes)))

    def _named(self, prefixes: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
        return {name: spec for name, spec in self.inputs.items() if name.startswith(prefixes)}

    def _counted(self, buffers: Buffers) -> Buffers:
        for buffer in buffers.values():
            size = buffer.nbytes if isinstance(buffer, np.ndarray) else buffer.num_bytes
            self.cache_bytes += size
            weakref.finalize(buffer, self._freed, size).atexit = False
        return buffers

    def _freed(self, size: int) -> None:
        self.cache_bytes -= size

    def check(self, name: str, array: Array) -> Array:
        """The array as this graph takes it (contiguous); ValueError if it is not that input."""
        if name not in self.inputs:
            raise ValueError(f"{self.path.name} has no input {name!r}, it has {list(self.inputs)}")
        self.check_fit(name, array)
        return np.ascontiguousarray(array)

    @abstractmethod
    def allocate(self, shape: Any, dtype: Any) -> Any:
        """Zeroed memory where this graph reads it."""

    @abstractmethod
    def check_fit(self, name: str, array: Array) -> None:
        """ValueError if the array is not of the input's shape and element type."""

    @abstractmethod
    def bind(self, reads: Buffers, writes: Buffers) -> "BoundGraph":
        """Bind `reads` as inputs and `writes` as outputs for as long as the result lives."""

    @abstractmethod
    def copy_rows(self, source: Buffers, target: Buffers, num_rows: int) -> None:
        """Copy the first rows of every buffer [1, N, rows, d] to the one of its name."""

    @abstractmethod
    def read_rows(self, buffers: Buffers, num_rows: int) -> Array:
        """The bytes of the first rows of every buffer [1, N, rows, d], for another process."""

    @abstractmethod
    def write_rows(self, rows: Array, buffers: Buffers, num_rows: int) -> None:
        """Set what `read_rows` of such buffers gave; ValueError if it is of another size."""


class BoundGraph(ABC):
    """A graph on one set of buffers."""

    def __init__(self, engine: LoadedGraph, reads: Buffers) -> None:
        self.name = engine.path.name
        self._check, self._fed = engine.check, [n for n in engine.inputs if n not in reads]

    def run(self, inputs: Arrays) -> Buffers:
        """Run with the inputs that are not bound; the outputs hold until the next run.

        ValueError if an input is missing, unknown, or of another shape or element type.
        """
        if sorted(inputs) != sorted(self._fed):
            raise ValueError(
                f"{self.name}: got inputs {sorted(inputs)}, wanted {sorted(self._fed)}"
            )
        return self.run_checked({n: self._check(n, array) for n, array in inputs.items()})

    @abstractmethod
    def run_checked(self, inputs: Arrays) -> Buffers:
        """`run`, once its inputs are known to fit."""


EngineLoader = Callable[[Path, int], LoadedGraph]
"""From the path of a graph and the cores that may run it: `Engine`, or a loader of plans."""


def rows_per_buffer(rows: Array, sizes: list[int]) -> list[Array]:
    """The bytes of `read_rows`, split; ValueError if they are not as many as the sizes say."""
    if rows.dtype != np.uint8 or rows.size != sum(sizes):
        raise misfit("what fills the first rows", rows, np.dtype(np.uint8), [sum(sizes)])
    return np.split(rows.reshape(-1), np.cumsum(sizes)[:-1])


def misfit(where: str, array: Array, dtype: np.dtype[Any], shape: object) -> ValueError:
    """Says that an array is not of the wanted type and shape; `where` begins the message."""
    return ValueError(f"{where} is {array.dtype}{list(array.shape)}, wanted {dtype}{shape}")
