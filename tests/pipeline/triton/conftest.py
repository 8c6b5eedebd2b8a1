"""A stand-in for Triton's module, under which `pipeline.triton` is imported."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest

START, END = 1, 2
SERVED = ("calls", "reply", "log", "metrics", "drift_metrics", "live_metrics", "models", "avatar")
CPU, GPU = 0, 2


class Response(SimpleNamespace):
    def __init__(self, output_tensors: Any = (), error: Any = None) -> None:
        super().__init__(outputs=dict(output_tensors), error=error)


class PreferredMemory(NamedTuple):
    kind: int
    device: int


class InferenceRequest:
    """A call of a model that is a plan: its answer is on the GPU unless told otherwise."""

    def __init__(self, *, preferred_memory: Any = None, **_: Any) -> None:
        self.memory = preferred_memory or PreferredMemory(GPU, 0)

    def exec(self) -> Any:
        return SimpleNamespace(has_error=lambda: False, output_tensors=lambda: [self])

    def name(self) -> str:
        return "answer"

    def as_numpy(self) -> np.ndarray:
        if self.memory.kind == GPU:
            raise RuntimeError("Tensor is stored in GPU and cannot be converted to NumPy.")
        return np.zeros(1, np.float32)


class MetricFamily:
    """Keeps what it was told, by labels."""

    GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"
    all: ClassVar[dict[str, "MetricFamily"]] = {}

    def __init__(self, *, name: str, description: str, kind: str) -> None:
        self.kind, self.metrics = kind, {}  # type: ignore[var-annotated]
        self.all[name] = self

    def Metric(self, *, labels: dict[str, str], buckets: Any = None) -> "Metric":  # noqa: N802
        key = tuple(sorted(labels.items()))
        assert key not in self.metrics
        return self.metrics.setdefault(key, Metric(self.kind))


class Metric:
    def __init__(self, kind: str) -> None:
        self.kind, self.value, self.observed = kind, 0.0, []  # type: ignore[var-annotated]

    def set(self, value: float) -> None:
        assert self.kind == MetricFamily.GAUGE
        self.value = value

    def increment(self, value: float) -> None:
        assert self.kind == MetricFamily.COUNTER
        assert value > 0
        self.value += value

    def observe(self, value: float) -> None:
        assert self.kind == MetricFamily.HISTOGRAM
        self.observed.append(value)


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`pipeline.triton.avatar` without Triton."""
    triton = SimpleNamespace(
        TRITONSERVER_REQUEST_FLAG_SEQUENCE_START=START,
        TRITONSERVER_REQUEST_FLAG_SEQUENCE_END=END,
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
        Tensor=lambda name, array: (name, array),
        InferenceResponse=Response,
        TritonError=str,
    )
    MetricFamily.all.clear()
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton)
    ours = [f"pipeline.triton.{name}" for name in SERVED]
    for name in ours:
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("pipeline.triton.avatar")
    later = {"PreferredMemory": PreferredMemory, "InferenceRequest": InferenceRequest}
    later["MetricFamily"] = MetricFamily
    triton.__dict__.update(later, TRITONSERVER_MEMORY_CPU=CPU)  # Triton adds these after the import
    yield module
    for name in ours:
        sys.modules.pop(name, None)
