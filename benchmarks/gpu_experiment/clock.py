"""How long work takes on a GPU, by its own events, and as a CUDA graph; on a CPU by the clock."""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch

from benchmarks.gpu_experiment.device import CUDA, GPU
from benchmarks.gpu_experiment.phase import Findings

NO_GRAPHS = "a CPU has no CUDA graphs"
NO_EVENTS = "a CPU has no events; times are the clock's"
NO_MEMORY = "a CPU's memory says nothing of a GPU's"


class Clock:
    """Times of work, in milliseconds: three runs to warm up and ten that count. In miniature, and
    for what is long, one and two."""

    def __init__(self, findings: Findings, is_miniature: bool) -> None:
        self.findings = findings
        self.is_miniature = is_miniature
        self.device = "cpu" if is_miniature else GPU
        if is_miniature:
            torch.set_num_threads(1)
            findings.without("events", NO_EVENTS)

    def times(self, name: str, work: Callable[[], object], is_long: bool = False) -> float | None:
        """A figure of the work as torch starts it, kernel by kernel; returns its median."""
        median: float | None = None
        warm, runs = (1, 2) if is_long or self.is_miniature else (3, 10)
        with self.findings.trying(name):
            for _ in range(warm):
                work()
            found = (self._on_cpu if self.is_miniature else self._on_gpu)(work, runs)
            median = float(np.median(found))
            values = {"p50": median, "least": min(found), "most": max(found)}
            self.findings.figure(name, {key: round(ms, 4) for key, ms in values.items()})
        return median

    def replays(self, name: str, work: Callable[[], object]) -> float | None:
        """A figure of the work as a CUDA graph, without what starting each kernel costs."""
        if self.is_miniature:
            self.findings.without(name, NO_GRAPHS)
            return None
        with self.findings.trying(name):
            graph = CUDA.CUDAGraph()
            work()
            CUDA.synchronize()
            with CUDA.graph(graph):
                kept = work()
            median = self.times(name, graph.replay)
            del kept
            return median
        return None

    def alone(self, name: str, work: Callable[[], object]) -> float | None:
        """A figure of the kernels alone: as a graph where there are any, else by the clock."""
        return (self.times if self.is_miniature else self.replays)(name, work)

    def peak(self, name: str, work: Callable[[], object]) -> None:
        """A figure of the bytes that the work takes beside what is there before it."""
        if self.is_miniature:
            work()
            self.findings.without(name, NO_MEMORY)
            return
        with self.findings.trying(name):
            CUDA.synchronize()
            CUDA.reset_peak_memory_stats()
            before = CUDA.memory_allocated()
            work()
            CUDA.synchronize()
            self.findings.figure(name, CUDA.max_memory_allocated() - before)

    def finish(self) -> None:
        """An assertion: figures may lack a value, but not because the device has failed."""

        def adds_up() -> bool:
            return torch.ones(2, device=self.device).sum().item() == 2

        self.findings.check("the_device_still_computes", adds_up)

    def _on_cpu(self, work: Callable[[], object], runs: int) -> list[float]:
        found = []
        for _ in range(runs):
            began = time.perf_counter()
            work()
            found.append(1e3 * (time.perf_counter() - began))
        return found

    def _on_gpu(self, work: Callable[[], object], runs: int) -> list[float]:
        events = [CUDA.Event(enable_timing=True) for _ in range(runs + 1)]
        events[0].record()
        for event in events[1:]:
            work()
            event.record()
        CUDA.synchronize()
        return [before.elapsed_time(after) for before, after in pairwise(events)]
