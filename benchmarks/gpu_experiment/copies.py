"""E. Copies between host and GPU, from pinned and from pageable memory, and what it costs to
capture, instantiate and launch a graph of as many nodes as a step has kernels.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu_experiment.device import Device, open_device
from benchmarks.gpu_experiment.phase import Findings
from benchmarks.gpu_experiment.torch_plans import TorchTensorRT
from pipeline.engines.base import Array
from pipeline.engines.gpu import Gpu

SIZES = {"latent": 811_008, "frames": 9_732_096, "sink": 2_162_688_000}
"""Bytes: a block's latent in float32, its frames in RGB, the sink's K and V in bf16 (14B)."""
NUM_NODES = 3000
NO_TIME = "the stand-in's time says nothing of CUDA's"
RUNS = 3


class Stopwatch:
    """Milliseconds on the host's clock, until the GPU is done; in miniature a run without them."""

    def __init__(self, findings: Findings, gpu: Gpu, is_miniature: bool) -> None:
        self._findings, self._gpu, self._is_miniature = findings, gpu, is_miniature

    def best(self, name: str, work: Callable[[], object], num_bytes: int) -> None:
        """A figure of the shortest of some runs, and of the bytes a second that it makes."""
        found = []
        for _ in range(RUNS):
            self._gpu.wait()
            began = time.perf_counter()
            work()
            self._gpu.wait()
            found.append(time.perf_counter() - began)
        best = min(found)
        figures = {"ms": round(1e3 * best, 4), "gb_per_s": round(num_bytes / best / 1e9, 2)}
        self.note(name, figures)

    def note(self, name: str, value: object) -> None:
        if self._is_miniature:
            self._findings.without(name, NO_TIME)
        else:
            self._findings.figure(name, value)


def measure(findings: Findings, is_miniature: bool) -> None:
    device = open_device(is_miniature)
    gpu = Gpu(0, device.cuda, TorchTensorRT(device))
    watch = Stopwatch(findings, gpu, is_miniature)
    captures(findings, watch, device, gpu)
    for name, num_bytes in SIZES.items():
        copies(findings, watch, gpu, name, num_bytes // 1000 if is_miniature else num_bytes)


def copies(findings: Findings, watch: Stopwatch, gpu: Gpu, name: str, num_bytes: int) -> None:
    """Up and down, from both kinds of memory; the bytes must come back."""
    buffer = gpu.allocate((num_bytes,), "uint8")
    pageable: Array = np.resize(np.arange(251, dtype=np.uint8), num_bytes)
    pinned = gpu.allocate_pinned((num_bytes,), "uint8")
    pinned[:] = pageable
    for kind, host in (("pinned", pinned), ("pageable", pageable)):
        back = gpu.allocate_pinned((num_bytes,), "uint8") if host is pinned else pageable.copy()
        watch.best(f"{name}_up_{kind}", partial(gpu.upload, host, buffer), num_bytes)
        back[:] = 0
        watch.best(f"{name}_down_{kind}", partial(gpu.download, buffer, back), num_bytes)
        findings.holds(f"{name}_comes_back_{kind}", np.array_equal(host, back))
    findings.figure(f"{name}_bytes", num_bytes)


def captures(findings: Findings, watch: Stopwatch, device: Device, gpu: Gpu) -> None:
    """A chain of small kernels: `NUM_NODES` additions of 1 to the same numbers."""
    buffer = gpu.allocate((1024,), "float32")
    gpu.wait()
    numbers = device.tensor(buffer.address, buffer.shape, buffer.dtype)
    recorded: list[float] = []

    def add() -> None:
        for _ in range(NUM_NODES):
            numbers.add_(1)

    def start() -> None:
        began = time.perf_counter()
        device.start(int(gpu.stream), add)
        recorded.append(1e3 * (time.perf_counter() - began))

    start()  # kernels are loaded when they are first needed
    gpu.wait()
    began, before = time.perf_counter(), gpu.memory()[0]
    graph = gpu.capture(start)
    passed = 1e3 * (time.perf_counter() - began)
    graph.launch()
    gpu.wait()
    findings.figure("graph_nodes", NUM_NODES)
    watch.note("graph_record_ms", round(recorded[-1], 2))
    watch.note("graph_instantiate_ms", round(passed - recorded[-1], 2))
    watch.note("graph_bytes", before - gpu.memory()[0])
    _launches(watch, gpu, graph)
    launches = 2 + 2 * RUNS
    findings.holds("every_node_ran_at_every_launch", _equal(gpu, buffer, launches * NUM_NODES))


def _launches(watch: Stopwatch, gpu: Gpu, graph: Any) -> None:
    """Until the host is free again, and until the GPU is done."""
    for name, waits in (("graph_launch_returns_ms", False), ("graph_launch_done_ms", True)):
        found = []
        for _ in range(RUNS):
            began = time.perf_counter()
            graph.launch()
            if waits:
                gpu.wait()
            found.append(time.perf_counter() - began)
            gpu.wait()
        watch.note(name, round(1e3 * min(found), 4))


def _equal(gpu: Gpu, buffer: Any, wanted: int) -> bool:
    return bool((gpu.read(buffer) == wanted).all())
