"""A stand-in for Triton's module, under which `pipeline.triton` is imported."""

import importlib
import json
import queue
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest

from pipeline.engines.manifest import manifest_path
from tests.support.plans import DEMO, describe

START, END, FINAL = 1, 2, 1
METRICS = ("metrics", "drift_metrics", "live_metrics")
SERVED = ("calls", "reply", "log", *METRICS, "models", "session_model", "avatar")
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
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=FINAL,
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


class Sessions:
    """A device that knows which sessions are open."""

    def __init__(self) -> None:
        self.open_ones: list[int] = []
        self.cache_bytes = 0

    def open(self, session: int) -> None:
        self.open_ones.append(session)

    def close(self, session: int) -> None:
        self.open_ones.remove(session)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stage's version folder on a GPU: a table, plans' manifests, no graphs."""
    version = tmp_path / "dit_stage_1" / "1"
    version.mkdir(parents=True)
    for name in ("pipeline.json", "hashes.json", "timesteps.safetensors"):
        shutil.copy(DEMO / name, version)
    for graph in ("dit_step", "dit_text"):
        describe(graph).save(manifest_path(version / f"{graph}.plan"))
    return version


def stage(serving: ModuleType, folder: Path, *, count: int = 1, **parameters: str) -> Any:
    """A loaded stage."""
    model = serving.StageModel()
    model.device = Sessions
    values = {"steps": "1,2", "max_sessions": "3", **parameters}
    entries = {key: {"string_value": value} for key, value in values.items()}
    config = {"parameters": entries, "instance_group": [{"count": count, "gpus": [1]}]}
    model.initialize(
        {
            "model_name": "dit_stage_1",
            "model_repository": str(folder.parent),
            "model_version": "1",
            "model_instance_device_id": "1",
            "model_config": json.dumps(config),
        }
    )
    return model


class Request:
    """A request to a model, and what came of it."""

    def __init__(self, session: Any, *, flags: int = 0, **inputs: np.ndarray) -> None:
        self._inputs = [
            SimpleNamespace(name=lambda name=name: name, as_numpy=lambda array=array: array)
            for name, array in inputs.items()
        ]
        self._flags, self._session = flags, session
        self._answers: queue.SimpleQueue[tuple[Response, int]] = queue.SimpleQueue()

    def sent_to(self, model: Any) -> None:
        """As Triton does it; the model says nothing before it has an answer."""
        assert model.execute([self]) is None

    @property
    def response(self) -> Response:
        """The one answer, which is waited for."""
        response, flags = self._answers.get(timeout=5)
        assert flags == FINAL
        return response

    def inputs(self) -> list[Any]:
        return self._inputs

    def flags(self) -> int:
        return self._flags

    def correlation_id(self) -> Any:
        return self._session

    def requested_output_names(self) -> list[str]:
        return ["identity", "latent"]

    def get_response_sender(self) -> Any:
        return SimpleNamespace(send=lambda response, flags: self._answers.put((response, flags)))
