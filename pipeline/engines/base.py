"""What every engine offers: a graph is bound to buffers once and run many times.

A loaded graph belongs to a process. A bound graph is that graph on one set of buffers: the caches
of a session are bound when it opens, and a run names only what changes. A cache that is bound as
input `cache_x` and as output `present_x` is the same memory, so the graph writes it in place. Every
other output has one buffer that is reused from run to run. (docs/design.md, Engines)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
Buffers = dict[str, Any]
"""Named memory that graphs read and write: arrays on a CPU, `DeviceBuffer`s on a GPU."""


class BoundGraph(Protocol):
    """A graph on one set of buffers."""

    def run(self, inputs: Arrays) -> Buffers:
        """Run with the inputs that are not bound; the outputs hold until the next run.

        ValueError if an input is missing, unknown, or of another shape or type.
        """


class LoadedGraph(Protocol):
    """What a stage or a decoder asks of an engine."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Of every input its name, with sizes and element type."""

    def new_buffers(self, *prefixes: str) -> Buffers:
        """Zeroed memory for every input whose name starts with one of `prefixes`."""

    def bind(self, reads: Buffers, writes: Buffers) -> BoundGraph:
        """Bind `reads` as inputs and `writes` as outputs for as long as the result lives."""

    def copy_rows(self, source: Buffers, target: Buffers, num_rows: int) -> None:
        """Copy the first rows of every buffer [1, N, rows, d] to the one of its name."""


EngineLoader = Callable[[Path, int], LoadedGraph]
"""From the path of a graph and the cores that may run it: `Engine`, or a loader of plans."""


def check_fed(graph: str, given: Collection[str], wanted: Collection[str]) -> None:
    """ValueError unless a run of `graph` is given exactly the inputs that are not bound."""
    if sorted(given) != sorted(wanted):
        raise ValueError(f"{graph}: got inputs {sorted(given)}, wanted {sorted(wanted)}")


def check_name(graph: str, name: str, inputs: Collection[str]) -> None:
    """ValueError unless `graph` has an input of this name."""
    if name not in inputs:
        raise ValueError(f"{graph} has no input {name!r}, it has {list(inputs)}")


def misfit(where: str, array: Array, dtype: np.dtype[Any], shape: object) -> ValueError:
    """Says that an array is not of the wanted type and shape; `where` begins the message."""
    return ValueError(f"{where} is {array.dtype}{list(array.shape)}, wanted {dtype}{shape}")
