"""A GPU made of host memory: stand-ins for cuda.bindings.runtime and tensorrt, with their methods.

Addresses are real addresses of this process. A plan is the path of an ONNX graph; it is executed
by ONNX Runtime on what lies at the addresses, and outputs named present_* are in place of cache_*.
Every call is written to `calls`, and what is not freed stands in `memory`.
"""

# ruff: noqa: N802, N815, the names are CUDA's and TensorRT's
import ctypes
import enum
import types
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from pipeline.engines.manifest import Machine, Manifest, TensorSpec, manifest_path

NAMES = {"float": "FLOAT", "float16": "HALF", "int64": "INT64", "uint8": "UINT8"}
MACHINE = Machine(gpu="Stand-in", compute_capability="9.0", tensorrt="11.0.0")
"""The one that the stand-ins below make up."""
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

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not callable(found) or name == "cudaGetErrorString":
            return found

        def called(*args: Any) -> Any:
            self.calls.append(name)
            return (self.failing[name],) if name in self.failing else found(*args)

        return called

    @property
    def used(self) -> int:
        return sum(len(block) for block in self.memory.values())

    def count(self) -> Counter[str]:
        return Counter(self.calls)

    def cudaSetDevice(self, index: int) -> tuple[int]:
        return (0,)

    def cudaGetErrorString(self, code: int) -> tuple[int, bytes]:
        return 0, {2: b"out of memory", 700: b"an illegal memory access"}.get(code, b"unknown")

    def cudaGetDeviceProperties(self, index: int) -> tuple[int, Any]:
        return 0, types.SimpleNamespace(name=b"Stand-in", major=9, minor=0)

    def cudaMemGetInfo(self) -> tuple[int, int, int]:
        return 0, self.total_bytes - self.used, self.total_bytes

    def cudaMalloc(self, size: int) -> tuple[int, ...]:
        if self.used + size > self.total_bytes:
            return (2,)
        return self._keep(self.memory, size)

    def cudaMallocHost(self, size: int) -> tuple[int, int]:
        return self._keep(self.pinned, size)

    def _keep(self, where: dict[int, Any], size: int) -> tuple[int, int]:
        block = (ctypes.c_char * size)()
        ctypes.memset(block, 0xAA, size)
        where[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple[int]:
        del self.memory[address]
        return (0,)

    def cudaFreeHost(self, address: int) -> tuple[int]:
        del self.pinned[address]
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
        assert kind == 3
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
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.recording = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        recorded, self.recording = self.recording, None
        return 0, recorded

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

    def Runtime(self, log: Any) -> Any:
        return types.SimpleNamespace(deserialize_cuda_engine=lambda plan: FakeEngine(self, plan))


class FakeEngine:
    def __init__(self, trt: FakeTensorRT, plan: Any) -> None:
        self.trt = trt
        options = ort.SessionOptions()
        options.log_severity_level = 3  # it warns that its caches are not in place
        self.session = ort.InferenceSession(bytes(plan[:]).decode(), options)
        self.io = {v.name: (Mode.INPUT, v) for v in self.session.get_inputs()}
        self.io |= {v.name: (Mode.OUTPUT, v) for v in self.session.get_outputs()}
        self.num_io_tensors = len(self.io)
        self.device_memory_size_v2 = 4096

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
        self.shapes = {n: tuple(v.shape) for n, (_, v) in engine.io.items()}

    def _call(self, name: str, detail: str = "") -> bool:
        self.cuda.calls.append(f"{name} {detail}".strip())
        return name not in self.engine.trt.refuses

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self._call("set_tensor_address", name)

    def set_device_memory(self, address: int, size: int) -> None:
        assert address in self.cuda.memory
        self._call("set_device_memory")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return self._call("set_input_shape", name)

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 77
        if self.cuda.recording is not None:
            self.cuda.recording.append(self._execute)
        else:
            self._execute()
        return self._call("execute_async_v3")

    def _execute(self) -> None:
        feeds = {v.name: self._at(v.name) for v in self.engine.session.get_inputs()}
        names = [v.name for v in self.engine.session.get_outputs()]
        for name, array in zip(names, self.engine.session.run(names, feeds), strict=True):
            ctypes.memmove(self.addresses[name], array.ctypes.data, array.nbytes)

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
    largest: dict[str, int],
    smallest: dict[str, int] | None = None,
) -> Path:
    """`graph` as a plan of the stand-in with its manifest; sizes of dynamic axes, else 1."""
    lowest = smallest or {}
    plan = folder / f"{graph.stem}.plan"
    plan.write_text(str(graph))
    session = ort.InferenceSession(str(graph))

    def spec(value: Any) -> TensorSpec:
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        small = tuple(d if isinstance(d, int) else lowest.get(d, 1) for d in value.shape)
        large = tuple(d if isinstance(d, int) else largest.get(d, 1) for d in value.shape)
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
    )
    manifest.save(manifest_path(plan))
    return plan
