"""A GPU made of host memory: stand-ins for cuda.bindings.runtime and tensorrt, with their methods.

Addresses are real addresses of this process. A plan is the path of an ONNX graph with the ranges of
its profiles; it is executed by ONNX Runtime on what lies at the addresses, and outputs named
present_* are in place of cache_*. Every call is written to `calls`, and what is not freed stands in
`memory`.

What the libraries refuse is refused: what would wait or free in a capture, a capture of streamed
weights, a shape before its profile or outside it, a profile while work is under way. A launch of
what was captured with other addresses, which would go unnoticed on a GPU, fails an assertion.
"""

# ruff: noqa: N802, N815, the names are CUDA's and TensorRT's
import ctypes
import enum
import inspect
import json
import threading
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from pipeline.engines.manifest import Machine, Manifest, TensorSpec, manifest_path

NAMES = {"float": "FLOAT", "float16": "HALF", "int64": "INT64", "uint8": "UINT8"}
MACHINE = Machine(gpu="Stand-in", compute_capability="9.0", tensorrt="11.0.0")
"""The one that the stand-ins below make up."""
SPOILT, SPOILS = 901, 900
"""CUDA's errors of a capture that something has invalidated, and of what invalidates it."""
Ranges = dict[str, tuple[int, int, int]]
HOST = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "UINT8": "uint8"}


class FakeCuda:
    """cuda.bindings.runtime: every function returns its error code first."""

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = types.SimpleNamespace(
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
    )
    cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, total_bytes: int = 1 << 30) -> None:
        self.total_bytes = total_bytes
        self.memory: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.graphs: dict[int, list[Any]] = {}
        self.calls: list[str] = []
        self.failing: dict[str, int] = {}
        self.recording: list[Any] | None = None
        self.capturing_thread = 0
        self.is_spoilt = False
        self.last_error = 0
        self.num_waits = 0

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not inspect.isroutine(found):
            return found
        if name == "cudaGetErrorString":
            return found

        def called(*args: Any) -> Any:
            self.calls.append(name)
            result = (self.failing[name],) if name in self.failing else found(*args)
            self.last_error = result[0] or self.last_error
            return result

        return called

    def spoil(self) -> bool:
        """Whether this thread is capturing, which what it asks for spoils."""
        found = self.recording is not None and threading.get_ident() == self.capturing_thread
        self.is_spoilt |= found
        return found

    def cudaGetLastError(self) -> tuple[int]:
        self.last_error = 0
        return (0,)

    @property
    def used(self) -> int:
        return sum(len(block) for block in self.memory.values())

    def count(self) -> Counter[str]:
        return Counter(self.calls)

    def cudaSetDevice(self, index: int) -> tuple[int]:
        return (0,)

    def cudaGetErrorString(self, code: int) -> tuple[int, bytes]:
        words = {
            2: b"out of memory",
            700: b"an illegal memory access",
            SPOILS: b"operation not permitted when stream is capturing",
            SPOILT: b"operation failed due to a previous error during capture",
        }
        return 0, words.get(code, b"unknown")

    def cudaGetDeviceProperties(self, index: int) -> tuple[int, Any]:
        return 0, types.SimpleNamespace(name=b"Stand-in", major=9, minor=0)

    def cudaMemGetInfo(self) -> tuple[int, int, int]:
        return 0, self.total_bytes - self.used, self.total_bytes

    def cudaMalloc(self, size: int) -> tuple[int, ...]:
        if self.used + size > self.total_bytes:
            return (2,)
        return self._keep(self.memory, size)

    def cudaMallocHost(self, size: int) -> tuple[int, ...]:
        return self._keep(self.pinned, size)

    def _keep(self, where: dict[int, Any], size: int) -> tuple[int, ...]:
        if self.spoil():
            return (SPOILS,)
        block = (ctypes.c_char * size)()
        ctypes.memset(block, 0xAA, size)
        where[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple[int]:
        return self._drop(self.memory, address)

    def cudaFreeHost(self, address: int) -> tuple[int]:
        return self._drop(self.pinned, address)

    def _drop(self, where: dict[int, Any], address: int) -> tuple[int]:
        if self.spoil():
            return (SPOILS,)
        del where[address]
        return (0,)

    def cudaMemcpyAsync(
        self, to: int, source: int, size: int, kind: int, stream: int
    ) -> tuple[int]:
        ctypes.memmove(to, source, size)
        return (0,)

    def cudaMemcpy2DAsync(
        self,
        to: int,
        to_pitch: int,
        source: int,
        source_pitch: int,
        width: int,
        height: int,
        kind: int,
        stream: int,
    ) -> tuple[int]:
        assert kind in (1, 2, 3)
        assert width <= min(to_pitch, source_pitch)
        for row in range(height):
            ctypes.memmove(to + row * to_pitch, source + row * source_pitch, width)
        return (0,)

    def cudaMemsetAsync(self, address: int, value: int, size: int, stream: int) -> tuple[int]:
        ctypes.memset(address, value, size)
        return (0,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        return 0, 77

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        if self.spoil():
            return (SPOILS,)
        self.num_waits += 1
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.recording, self.is_spoilt = [], False
        self.capturing_thread = threading.get_ident()
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        recorded, self.recording = self.recording, None
        return (SPOILT, None) if self.is_spoilt else (0, recorded)

    def cudaGraphInstantiate(self, graph: list[Any], flags: int) -> tuple[int, int]:
        self.graphs[number := len(self.calls)] = graph
        return 0, number

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[int]:
        for work in self.graphs[graph]:
            work()
        return (0,)

    def cudaGraphDestroy(self, graph: Any) -> tuple[int]:
        return (0,)

    def cudaGraphExecDestroy(self, graph: int) -> tuple[int]:
        del self.graphs[graph]
        return (0,)


class Mode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT64 = 2
    UINT8 = 3


class FakeTensorRT:
    """The module tensorrt, on a FakeCuda."""

    TensorIOMode = Mode
    ExecutionContextAllocationStrategy = types.SimpleNamespace(USER_MANAGED="user")
    __version__ = "11.0.0"

    class ILogger:
        def __init__(self) -> None:
            pass

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.in_place = True
        self.refuses: set[str] = set()
        self.during_capture: Callable[[], Any] = lambda: None
        """Called while something is captured."""

    def Runtime(self, log: Any) -> Any:
        def load(plan: Any) -> Any:
            return None if "deserialize" in self.refuses else FakeEngine(self, plan, log)

        return types.SimpleNamespace(deserialize_cuda_engine=load)


class FakeEngine:
    def __init__(self, trt: FakeTensorRT, plan: Any, log: Any) -> None:
        self.trt, self.log = trt, log
        options = ort.SessionOptions()
        options.log_severity_level = 3  # it warns that its caches are not in place
        content = json.loads(bytes(plan[:]))
        self.profiles: list[Ranges] = content["profiles"]
        self.session = ort.InferenceSession(content["graph"], options)
        self.io = {v.name: (Mode.INPUT, v) for v in self.session.get_inputs()}
        self.io |= {v.name: (Mode.OUTPUT, v) for v in self.session.get_outputs()}
        self.num_io_tensors = len(self.io)
        self.num_optimization_profiles = len(self.profiles)
        self.weight_streaming_budget_v2 = self.streamable_weights_size = 1000

    @property
    def _is_streaming(self) -> bool:
        return self.weight_streaming_budget_v2 < self.streamable_weights_size

    def get_device_memory_size_for_profile_v2(self, number: int) -> int:
        assert 0 <= number < len(self.profiles)
        return 4096 + 1024 * self._is_streaming

    @property
    def device_memory_size_v2(self) -> int:
        return self.get_device_memory_size_for_profile_v2(0)

    def get_tensor_profile_shape(self, name: str, number: int) -> list[tuple[int, ...]]:
        mode, value = self.io[name]
        assert mode == Mode.INPUT
        ranges = self.profiles[number]
        return [
            tuple(d if isinstance(d, int) else ranges[d][end] for d in value.shape)
            for end in range(3)
        ]

    def get_tensor_name(self, index: int) -> str:
        return list(self.io)[index]

    def get_tensor_mode(self, name: str) -> Mode:
        return self.io[name][0]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[NAMES[self.io[name][1].type.removeprefix("tensor(").removesuffix(")")]]

    def get_aliased_input_tensor(self, name: str) -> str | None:
        is_cache = name.startswith("present_") and self.trt.in_place
        return name.replace("present_", "cache_") if is_cache else None

    def create_execution_context(self, strategy: Any) -> "FakeContext":
        assert strategy == "user"
        return FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.cuda = engine, engine.trt.cuda
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.sizes: dict[str, int] = {}
        """Name of an open axis -> its size."""
        self.profile = -1
        self.waits_at_enqueue = -1

    def _call(self, name: str, detail: str = "", why_not: str = "") -> bool:
        """Whether the call is done; a reason why not goes to TensorRT's log."""
        self.cuda.calls.append(f"{name} {detail}".strip())
        if name in self.engine.trt.refuses:
            why_not = f"{name} is refused"
        if why_not:
            severity = types.SimpleNamespace(name="ERROR")
            self.engine.log.log(severity, why_not)
        return not why_not

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        assert stream == 77
        busy = self.waits_at_enqueue == self.cuda.num_waits
        why_not = "the context is at work" if busy else ""
        if not 0 <= number < len(self.engine.profiles):
            why_not = f"there is no profile {number}"
        self.profile, self.shapes, self.sizes = number, {}, {}
        return self._call("set_optimization_profile_async", str(number), why_not)

    def set_tensor_address(self, name: str, address: int) -> bool:
        why_not = "a capture is under way" if self.cuda.recording is not None else ""
        self.addresses[name] = address
        return self._call("set_tensor_address", name, why_not)

    def set_device_memory(self, address: int, size: int) -> None:
        assert address in self.cuda.memory
        assert size >= self.engine.get_device_memory_size_for_profile_v2(self.profile)
        self._call("set_device_memory")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self.profile < 0:
            return self._call("set_input_shape", name, "no profile is set")
        low, _, high = self.engine.get_tensor_profile_shape(name, self.profile)
        fits = len(low) == len(shape) and all(
            a <= size <= b for a, size, b in zip(low, shape, high, strict=True)
        )
        axes = self.engine.io[name][1].shape
        self.shapes[name] = shape
        self.sizes |= {a: n for a, n in zip(axes, shape, strict=False) if isinstance(a, str)}
        return self._call("set_input_shape", name, "" if fits else f"{name} is outside its profile")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        axes = self.engine.io[name][1].shape
        return tuple(a if isinstance(a, int) else self.sizes.get(a, -1) for a in axes)

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 77
        work = self._work()
        if self.cuda.recording is None:
            work()
            return self._call("execute_async_v3")
        self.engine.trt.during_capture()
        self.cuda.recording.append(work)
        streams = self.engine._is_streaming and self.cuda.spoil()  # it waits for its copies
        return self._call("execute_async_v3", why_not="weights are streamed" if streams else "")

    def _work(self) -> Callable[[], None]:
        """One execution, now or in a captured graph: with the addresses and shapes of now."""
        addresses, shapes = dict(self.addresses), dict(self.shapes)

        def execute() -> None:
            self.waits_at_enqueue = self.cuda.num_waits
            assert addresses == self.addresses, "captured with other addresses"
            assert shapes == self.shapes, "captured with other shapes"
            feeds = {v.name: self._at(v.name) for v in self.engine.session.get_inputs()}
            names = [v.name for v in self.engine.session.get_outputs()]
            for name, array in zip(names, self.engine.session.run(names, feeds), strict=True):
                assert array.nbytes <= len(self.cuda.memory[addresses[name]]), f"{name} is too long"
                ctypes.memmove(addresses[name], array.ctypes.data, array.nbytes)

        return execute

    def _at(self, name: str) -> np.ndarray:
        dtype = np.dtype(HOST[self.engine.get_tensor_dtype(name).name])
        shape = self.shapes[name]
        size = int(np.prod(shape)) * dtype.itemsize
        if not size:
            return np.zeros(shape, dtype)
        memory = (ctypes.c_char * size).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape).copy()


def write_plan(
    graph: Path,
    folder: Path,
    machine: Machine,
    largest: dict[str, int] | None = None,
    smallest: dict[str, int] | None = None,
    *,
    profiles: list[Ranges] | None = None,
    streams_weights: bool = False,
) -> Path:
    """`graph` as a plan of the stand-in with its manifest: sizes of dynamic axes, else 1, or the
    axes' ranges in each profile."""
    session = ort.InferenceSession(str(graph))
    values = [*session.get_inputs(), *session.get_outputs()]
    low, high = smallest or {}, largest or {}
    axes = {axis for value in values for axis in value.shape if isinstance(axis, str)}
    ranges = profiles or [{a: (low.get(a, 1), high.get(a, 1), high.get(a, 1)) for a in axes}]
    plan = folder / f"{graph.stem}.plan"
    plan.write_text(json.dumps({"graph": str(graph), "profiles": ranges}))

    def size(axis: int | str, end: int) -> int:
        if isinstance(axis, int):
            return axis
        return (min if end == 0 else max)(r.get(axis, (1, 1, 1))[end] for r in ranges)

    def spec(value: Any) -> TensorSpec:
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        small, large = (tuple(size(axis, end) for axis in value.shape) for end in (0, 2))
        return TensorSpec(dtype=HOST[NAMES[kind]], smallest=small, largest=large)

    manifest = Manifest(
        graph=graph.stem,
        machine=machine,
        gpu_memory_bytes=1 << 30,
        opset=24,
        precision="fp32",
        sources={},
        weights_bytes=1000,
        scratch_bytes=4096,
        plan_bytes=plan.stat().st_size,
        builder_flags=(),
        build_seconds=0.0,
        inputs={v.name: spec(v) for v in session.get_inputs()},
        outputs={v.name: spec(v) for v in session.get_outputs()},
        streams_weights=streams_weights,
    )
    manifest.save(manifest_path(plan))
    return plan
