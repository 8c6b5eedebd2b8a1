"""The clock on a GPU that torch only seems to have; and torch's names that no test here reaches."""

import ast
import contextlib
import json
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_experiment import clock
from benchmarks.gpu_experiment.phase import Findings


class FakeTorchCuda:
    """As much of torch.cuda as a clock needs: a run takes 2 ms, and a replay 1."""

    def __init__(self) -> None:
        self.now = 0.0

    def Event(self, enable_timing: bool) -> Any:  # noqa: N802
        cuda = self

        class Event:
            def record(self) -> None:
                self.at = cuda.now

            def elapsed_time(self, after: "Event") -> float:
                return after.at - self.at

        return Event()

    def CUDAGraph(self) -> Any:  # noqa: N802
        return types.SimpleNamespace(replay=lambda: self.run(1.0))

    def graph(self, graph: Any) -> Any:
        return contextlib.nullcontext()

    def run(self, ms: float = 2.0) -> None:
        self.now += ms

    def synchronize(self) -> None:
        pass

    def reset_peak_memory_stats(self) -> None:
        pass

    def memory_allocated(self) -> int:
        return 100

    def max_memory_allocated(self) -> int:
        return 175


def test_a_clock_times_work_by_events_and_as_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing here ever runs these lines but this test."""
    cuda = FakeTorchCuda()
    monkeypatch.setattr(clock, "CUDA", cuda)
    found = tmp_path / "findings"
    timer = clock.Clock(Findings(found), is_miniature=False)
    assert timer.times("eager", cuda.run) == 2.0
    assert timer.replays("graph", cuda.run) == 1.0
    assert timer.alone("kernels", cuda.run) == 1.0
    timer.peak("bytes", cuda.run)

    def refused() -> None:
        raise RuntimeError("out of memory")

    assert timer.replays("none", refused) is None
    lines = [json.loads(line) for line in found.read_text().splitlines()]
    assert lines == [
        ["figures", "eager", {"p50": 2.0, "least": 2.0, "most": 2.0}],
        ["figures", "graph", {"p50": 1.0, "least": 1.0, "most": 1.0}],
        ["figures", "kernels", {"p50": 1.0, "least": 1.0, "most": 1.0}],
        ["figures", "bytes", 75],
        ["figures", "none", None],
        ["reasons", "none", "RuntimeError: out of memory"],
    ]


def test_torch_has_every_name_of_its_cuda_that_is_used() -> None:
    """These lines run on a GPU alone: a slip would cost a phase of the lease."""
    names = {
        node.attr
        for file in Path(clock.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("CUDA", "torch.cuda")
    }
    assert {"MemPool", "CUDAGraph", "Event", "ExternalStream"} <= names
    assert {name for name in names if not hasattr(torch.cuda, name)} == set()
