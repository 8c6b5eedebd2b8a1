"""A. The binding on real CUDA: `Gpu`, buffers, pinned arrays and captured graphs.

The plan is small: attention of 64 queries to an open number of keys, with a cache that is written
in place. Equal means bit for bit: the same kernels on the same stream.
"""

import gc
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_experiment.device import open_device
from benchmarks.gpu_experiment.phase import Findings
from benchmarks.gpu_experiment.torch_plans import TorchPlan, TorchTensorRT
from pipeline.engines.base import Array, Buffers
from pipeline.engines.gpu import Gpu
from pipeline.engines.tensorrt import TensorRTBinding, TensorRTEngine

HEADS, QUERIES, SIZE, ROWS = 2, 64, 64, 8192
FEW, MANY = 32, 256
SESSIONS, NEW_SESSIONS = 50, 5
GRANULE = 2 << 20
"""Bytes in which a driver hands memory out. A session's cache is twice that: one leak shows."""
CACHE = (1, HEADS, ROWS, SIZE)


def attention(q: Tensor, keys: Tensor, write_index: Tensor, cache_k: Tensor) -> list[Tensor]:
    """q [64, 128] to keys [K, 128], plus what lies in the first rows of the cache."""
    rows = write_index + torch.arange(QUERIES, device=q.device)
    heads = q.reshape(1, QUERIES, HEADS, SIZE).transpose(1, 2)
    cache_k.index_copy_(2, rows, heads)
    attended = torch.softmax(q @ keys.T / SIZE, dim=1) @ keys
    return [attended + cache_k[0, 0, : 2 * QUERIES].mean(), cache_k]


PLAN = TorchPlan(
    name="attention",
    inputs={
        "q": ((QUERIES, HEADS * SIZE), "float32"),
        "keys": (("keys", HEADS * SIZE), "float32"),
        "write_index": ((1,), "int64"),
        "cache_k": (CACHE, "float32"),
    },
    outputs={"y": ((QUERIES, HEADS * SIZE), "float32"), "present_k": (CACHE, "float32")},
    run=attention,
    profiles=[{"keys": (FEW, MANY, MANY)}],
)


class Bench:
    """The project's `Gpu` and the plan on it."""

    def __init__(self, is_miniature: bool, folder: Path) -> None:
        self.device = open_device(is_miniature)
        self.trt = TorchTensorRT(self.device)
        self.trt.plans[PLAN.name] = PLAN
        self.gpu = Gpu(0, self.device.cuda, self.trt)
        self.plan = PLAN.save(folder, self.gpu)
        self.engine = TensorRTEngine(self.plan, self.gpu)
        self.elsewhere = ThreadPoolExecutor(1)

    def session(self, *, captures: bool = True) -> TensorRTBinding:
        """The plan on a cache of its own."""
        cache = self.engine.new_buffers("cache_")
        binding = self.engine.bind(cache, {"present_k": cache["cache_k"]})
        binding._captures = captures
        return binding


Run = Callable[[int, int], Array]
"""From a seed and a number of keys to y."""


def agree(one: Run, other: Run, sizes: tuple[int, ...]) -> bool:
    """Whether both give the same bits for the same seeds, with so many keys in turn."""
    pairs = [(one(seed, keys), other(seed, keys)) for seed, keys in enumerate(sizes)]
    return all(np.array_equal(*pair) for pair in pairs)


def runner(binding: TensorRTBinding) -> Run:
    """What runs a binding on inputs that a seed makes."""

    def run(seed: int, num_keys: int = MANY) -> Array:
        rng = np.random.default_rng(seed)
        q, keys = (rng.standard_normal((n, 128)).astype(np.float32) for n in (QUERIES, num_keys))
        index = np.array([QUERIES * (seed % 2)], np.int64)
        result: Array = binding.run({"q": q, "keys": keys, "write_index": index})["y"].copy()
        return result

    return run


def replays(bench: Bench) -> bool:
    """A captured graph must read new inputs, and write where its first run wrote."""
    captured, plain = bench.session(), bench.session(captures=False)
    same = agree(runner(plain), runner(captured), (MANY,) * 5)
    one, other = (bench.gpu.read(each._bound["cache_k"]) for each in (captured, plain))
    return same and np.array_equal(one, other) and captured._graph is not None


def recaptures(bench: Bench) -> bool:
    """What was captured for one shape must not run for another."""
    captured, plain = bench.session(), bench.session(captures=False)
    run, sizes = runner(captured), (FEW, FEW, MANY, MANY, FEW)
    graphs = []

    def noting(seed: int, num_keys: int) -> Array:
        result = run(seed, num_keys)
        graphs.append(captured._graph)
        return result

    same = agree(runner(plain), noting, sizes)
    changes = [one is not other for one, other in pairwise(graphs)]
    return same and None not in graphs and changes == [False, True, False, True]


def arrives(bench: Bench, move: Callable[[Buffers, Buffers, int], None]) -> bool:
    """Whether `move` brings a hundred rows of a cache to another one, and no more."""
    source, target = (bench.engine.new_buffers("cache_") for _ in range(2))
    numbers = np.random.default_rng(0).standard_normal(CACHE).astype(np.float32)
    bench.gpu.write(numbers, source["cache_k"])
    move(source, target, 100)
    found = bench.gpu.read(target["cache_k"])
    return np.array_equal(found[:, :, :100], numbers[:, :, :100]) and not found[:, :, 100:].any()


def copies_rows(bench: Bench) -> bool:
    return arrives(bench, bench.engine.copy_rows)


def sends_rows(bench: Bench) -> bool:
    """Through the host, as from one stage to another."""
    engine = bench.engine

    def send(source: Buffers, target: Buffers, num_rows: int) -> None:
        engine.write_rows(engine.read_rows(source, num_rows), target, num_rows)

    return arrives(bench, send)


def keeps_pinned(bench: Bench) -> bool:
    """A view is all that is left of pinned memory; others are made and go meanwhile."""
    view = bench.gpu.allocate_pinned((1000,), "float32")[100:200]
    view[:] = np.arange(100)
    gc.collect()
    for _ in range(8):
        bench.gpu.allocate_pinned((1000,), "float32")[:] = 7
    buffer = bench.gpu.allocate((100,), "float32")
    bench.gpu.upload(view, buffer)
    return np.array_equal(bench.gpu.read(buffer), np.arange(100, dtype=np.float32))


def crosses_threads(bench: Bench) -> bool:
    """A model loads on one thread and serves on another."""
    here = runner(bench.session())
    there = runner(bench.elsewhere.submit(bench.session).result())
    wanted = [here(seed, MANY) for seed in range(3)]
    found = [there(0, MANY), *(bench.elsewhere.submit(there, s, MANY).result() for s in (1, 2))]
    loaded = bench.elsewhere.submit(TensorRTEngine, bench.plan, bench.gpu).result()
    return loaded.inputs == bench.engine.inputs and np.array_equal(wanted, found)


def in_capture(bench: Bench, act: Callable[[], object]) -> tuple[TensorRTBinding, bool]:
    """A binding whose capture was disturbed; and whether it still gives what it should."""
    binding, plain = bench.session(), bench.session(captures=False)
    bench.trt.during_capture = act
    try:
        run = runner(binding)
        first = run(0, MANY)
    finally:
        bench.trt.during_capture = lambda: None
    wanted = [runner(plain)(seed, MANY) for seed in range(3)]
    return binding, np.array_equal(wanted, [first, run(1, MANY), run(2, MANY)])


def bears_other_threads(bench: Bench) -> bool:
    """Another model of the process may allocate and free whenever it likes."""

    def allocate_and_free() -> None:
        (address,) = bench.gpu.call("cudaMalloc", 64 << 20)
        bench.gpu.call("cudaFree", address)

    binding, same = in_capture(bench, lambda: bench.elsewhere.submit(allocate_and_free).result())
    return same and binding._graph is not None


def bears_collection(bench: Bench) -> bool:
    """Garbage may be found in mid-capture; its memory must come back afterwards."""
    before = bench.gpu.memory()[0]
    held: list[Any] = [bench.gpu.allocate((64 << 20,), "uint8")]
    held.append(held)
    during = []

    def collect() -> None:
        nonlocal held
        held = []
        gc.collect()
        during.append(len(bench.gpu._released))

    binding, same = in_capture(bench, collect)
    captured = binding._graph is not None
    del binding
    gc.collect()
    return same and captured and during[0] >= 1 and bench.gpu.memory()[0] >= before - GRANULE


def falls_back(bench: Bench) -> bool:
    """A plan that waits cannot be captured: it runs on, and leaves no error for others."""
    binding, same = in_capture(bench, bench.gpu.wait)
    works = torch.ones(2, device=bench.device.name).sum().item() == 2
    return same and works and binding._graph is None and not binding._captures


def gives_back(bench: Bench, findings: Findings) -> bool:
    """Fifty sessions, one after the other; what CUDA keeps for itself is there after the first."""

    def open_and_close(count: int) -> None:
        for _ in range(count):
            run = runner(bench.session())
            run(0, MANY), run(1, MANY)

    open_and_close(NEW_SESSIONS)
    gc.collect()
    before = bench.gpu.memory()[0]
    open_and_close(SESSIONS)
    gc.collect()
    lost = before - bench.gpu.memory()[0]
    findings.figure("lost_bytes_of_50_sessions", lost)
    return lost < GRANULE


def costs(bench: Bench, findings: Findings, is_miniature: bool) -> None:
    """What a launch saves, and what a capture costs."""
    if is_miniature:
        for name in ("run_us", "replay_us", "capture_us"):
            findings.without(name, "the stand-in's time says nothing of CUDA's")
        return
    binding: TensorRTBinding = bench.session()
    runner(binding)(0, MANY)
    for name, start in (
        ("run_us", binding._execute),
        ("replay_us", binding._start),
        ("capture_us", lambda: bench.gpu.capture(binding._execute)),
    ):
        began = time.perf_counter()
        for _ in range(100):
            start()
        bench.gpu.wait()
        findings.figure(name, round(1e4 * (time.perf_counter() - began), 1))


CHECKS: dict[str, Callable[[Bench], bool]] = {
    "run_capture_and_replay_agree_bit_for_bit": replays,
    "a_changed_shape_recaptures": recaptures,
    "copy_rows_copies_the_first_rows_only": copies_rows,
    "rows_pass_through_the_host": sends_rows,
    "pinned_arrays_survive_collection": keeps_pinned,
    "one_thread_loads_another_runs": crosses_threads,
}
DISTURBED: dict[str, Callable[[Bench], bool]] = {
    "garbage_is_collected_in_a_capture": bears_collection,
    "a_refused_capture_falls_back": falls_back,
    "another_thread_allocates_and_frees_in_a_capture": bears_other_threads,
}
"""The last ones: a GPU may take offence for good."""


def measure(findings: Findings, is_miniature: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(is_miniature, Path(folder))
        for name, check in CHECKS.items():
            findings.check(name, partial(check, bench))
        findings.check("50_sessions_give_memory_back", partial(gives_back, bench, findings))
        costs(bench, findings, is_miniature)
        for name, check in DISTURBED.items():
            findings.check(name, partial(check, bench))
        bench.elsewhere.shutdown()
