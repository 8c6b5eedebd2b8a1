"""TensorRT behind the interface of `pipeline.engines.onnx`. Every call of CUDA stands here.

A `Gpu` is one device in one process: its stream and its memory. A `TensorRTEngine` is one plan on
it, a `TensorRTBinding` that plan on one set of buffers with an execution context of its own.
Addresses are set once. From its second run on a binding launches what it has captured as a CUDA
graph; only the copies of what comes and goes, through pinned memory, stay outside the capture.
The contexts of a process run one after another and share one block of scratch memory.

None of this has run on a GPU: tests drive it with a stand-in for both libraries.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import math
import mmap
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.engines.host_arrays import check_array, from_bfloat16, storage_type, to_bfloat16
from pipeline.engines.manifest import BYTES, Machine, Manifest, manifest_path
from pipeline.engines.onnx import Buffers

logger = logging.getLogger(__name__)

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "UINT8": "uint8",
    "INT8": "int8",
    "BOOL": "bool",
    "FP8": "float8",
}
"""TensorRT's names of element types -> ours, numpy's where numpy has the type."""
Shape = tuple[int, ...]


@dataclass(eq=False, slots=True, kw_only=True, weakref_slot=True)
class DeviceBuffer:
    """Memory on the GPU, freed with the last reference to it."""

    address: int
    shape: Shape
    dtype: str
    num_bytes: int


class Gpu:
    """One device of this process. Any thread may call it, one at a time."""

    def __init__(self, index: int, cuda: Any = None, trt: Any = None) -> None:
        """`cuda` and `trt` are the modules cuda.bindings.runtime and tensorrt."""
        self.index = index
        self.cuda = cuda = cuda or _library("cuda.bindings.runtime")
        self.trt = trt = trt or _library("tensorrt")
        self._thread = threading.local()
        self._scratch: DeviceBuffer | None = None
        self.stream = self.call("cudaStreamCreateWithFlags", cuda.cudaStreamNonBlocking)[0]
        weakref.finalize(self, _quietly, cuda.cudaStreamDestroy, self.stream)
        self.log = _log_of(trt)
        self.runtime = trt.Runtime(self.log)

    def call(self, name: str, *args: Any) -> tuple[Any, ...]:
        """What a function of the CUDA runtime returns; RuntimeError in CUDA's own words."""
        if getattr(self._thread, "device", None) != self.index:  # CUDA's device is per thread
            self._raw("cudaSetDevice", self.index)
            self._thread.device = self.index
        return self._raw(name, *args)

    def _raw(self, name: str, *args: Any) -> tuple[Any, ...]:
        code, *results = getattr(self.cuda, name)(*args)
        if int(code):
            words = self.cuda.cudaGetErrorString(code)[1].decode()
            raise RuntimeError(f"GPU {self.index}: {name} failed: {words} (error {int(code)})")
        return tuple(results)

    def machine(self) -> Machine:
        (properties,) = self.call("cudaGetDeviceProperties", self.index)
        return Machine(
            gpu=properties.name.decode(),
            compute_capability=f"{properties.major}.{properties.minor}",
            tensorrt=self.trt.__version__,
        )

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = self.call("cudaMemGetInfo")
        return free, total

    def allocate(self, shape: Shape, dtype: str) -> DeviceBuffer:
        """Zeroed memory; RuntimeError says how much was wanted and how much is free."""
        num_bytes = max(BYTES[dtype] * math.prod(shape), 1)
        try:
            (address,) = self.call("cudaMalloc", num_bytes)
        except RuntimeError as error:
            free, total = (size / 1e9 for size in self.memory())
            wanted = f"wanted {num_bytes / 1e9:.3f} GB, {free:.3f} of {total:.3f} GB are free"
            raise RuntimeError(f"{error}; {wanted}") from error
        address = int(address)
        buffer = DeviceBuffer(address=address, shape=shape, dtype=dtype, num_bytes=num_bytes)
        weakref.finalize(buffer, _quietly, self.call, "cudaFree", address).atexit = False
        self.call("cudaMemsetAsync", address, 0, num_bytes, self.stream)
        return buffer

    def allocate_pinned(self, shape: Shape, dtype: str) -> np.ndarray:
        """Host memory that the GPU copies from and to by itself, as an array."""
        num_bytes = max(BYTES[dtype] * math.prod(shape), 1)
        (address,) = self.call("cudaMallocHost", num_bytes)
        memory = (ctypes.c_char * num_bytes).from_address(int(address))
        weakref.finalize(memory, _quietly, self.call, "cudaFreeHost", address).atexit = False
        numbers = np.frombuffer(memoryview(memory), storage_type(dtype), math.prod(shape))
        return numbers.reshape(shape)

    def scratch(self, num_bytes: int) -> DeviceBuffer:
        """The contexts' common activation memory, of at least this size."""
        if self._scratch is None or self._scratch.num_bytes < num_bytes:
            self._scratch = self.allocate((num_bytes,), "uint8")
        return self._scratch

    def upload(self, source: np.ndarray, target: DeviceBuffer) -> None:
        """Start a copy from pinned memory, as many bytes as the source has."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        address = source.ctypes.data
        self.call("cudaMemcpyAsync", target.address, address, source.nbytes, kind, self.stream)

    def download(self, source: DeviceBuffer, target: np.ndarray) -> None:
        """Start a copy to pinned memory, as many bytes as the target has."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        address = target.ctypes.data
        self.call("cudaMemcpyAsync", address, source.address, target.nbytes, kind, self.stream)

    def copy_rows(self, source: DeviceBuffer, target: DeviceBuffer, num_rows: int) -> None:
        """Start a copy of the first rows (axis 2) of a buffer [1, N, rows, d] to one like it."""
        _, heads, rows, size = source.shape
        row = size * BYTES[source.dtype]
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        places = target.address, rows * row, source.address, rows * row
        self.call("cudaMemcpy2DAsync", *places, num_rows * row, heads, kind, self.stream)

    def wait(self) -> None:
        """Until all that was started is done; errors of it show up here."""
        self.call("cudaStreamSynchronize", self.stream)

    def read(self, buffer: DeviceBuffer) -> np.ndarray:
        """The numbers of a buffer, bfloat16 widened to float32; for tests and inspection."""
        pinned = self.allocate_pinned(buffer.shape, buffer.dtype)
        self.download(buffer, pinned)
        self.wait()
        return from_bfloat16(pinned) if buffer.dtype == "bfloat16" else pinned.copy()

    def write(self, array: np.ndarray, buffer: DeviceBuffer) -> None:
        """Set the numbers of a buffer, rounded to its type; the counterpart of `read`."""
        pinned = self.allocate_pinned(buffer.shape, buffer.dtype)
        pinned[...] = to_bfloat16(array) if buffer.dtype == "bfloat16" else array
        self.upload(pinned, buffer)
        self.wait()

    def capture(self, start: Callable[[], None]) -> CapturedGraph:
        """What `start` puts on the stream, recorded instead of run."""
        mode = self.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", self.stream, mode)
        try:
            start()
        finally:  # also after an error: the stream would stay in capture mode
            (graph,) = self.call("cudaStreamEndCapture", self.stream)
        try:
            return CapturedGraph(self, self.call("cudaGraphInstantiate", graph, 0)[0])
        finally:
            self.call("cudaGraphDestroy", graph)


class CapturedGraph:
    """A CUDA graph that is ready to be launched."""

    def __init__(self, gpu: Gpu, executable: Any) -> None:
        self._gpu, self._executable = gpu, executable
        free = weakref.finalize(self, _quietly, gpu.call, "cudaGraphExecDestroy", executable)
        free.atexit = False

    def launch(self) -> None:
        self._gpu.call("cudaGraphLaunch", self._executable, self._gpu.stream)


class TensorRTEngine:
    """A plan, loaded once per process and shared by its sessions."""

    def __init__(self, path: Path, gpu: Gpu) -> None:
        """Load `path` once its manifest agrees with the machine; ValueError names what differs."""
        if not path.is_file():
            raise FileNotFoundError(f"plan {path} is missing; `make engines` builds it")
        self.path, self.gpu = path, gpu
        self.manifest = Manifest.load(manifest_path(path))
        self.manifest.check(gpu.machine())
        gpu.call("cudaMemGetInfo")  # TensorRT allocates on the thread's device: set it
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan:
            self.engine = gpu.runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise RuntimeError(f"{path.name}: TensorRT cannot load it: {gpu.log.last}")
        if self.manifest.streams_weights:
            self.engine.weight_streaming_budget_v2 = 0
        self.inputs, self.outputs = self._tensors("INPUT"), self._tensors("OUTPUT")
        self.scratch_bytes = int(self.engine.device_memory_size_v2)

    def _tensors(self, mode: str) -> dict[str, tuple[Shape, str]]:
        """Name -> shape at its largest and element type."""
        engine, wanted = self.engine, getattr(self.gpu.trt.TensorIOMode, mode)
        specs = self.manifest.inputs if mode == "INPUT" else self.manifest.outputs
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        found = {
            name: (specs[name].largest, _DTYPES[engine.get_tensor_dtype(name).name])
            for name in names
            if engine.get_tensor_mode(name) == wanted and name in specs
        }
        if set(found) != set(specs):
            raise ValueError(
                f"{self.path.name} has other {mode.lower()}s than its manifest: {names}"
            )
        return found

    def new_buffers(self, *prefixes: str) -> Buffers:
        """Zeroed memory on the GPU for every input whose name starts with one of `prefixes`."""
        return {
            name: self.gpu.allocate(shape, dtype)
            for name, (shape, dtype) in self.inputs.items()
            if name.startswith(prefixes)
        }

    def bind(self, reads: Buffers, writes: Buffers) -> TensorRTBinding:
        """Bind device buffers as inputs and outputs. Arrays in `reads` are brought along anew for
        every run, since their owner may have changed them; arrays in `writes` are filled by it."""
        return TensorRTBinding(self, reads, writes)

    def copy_rows(self, source: Buffers, target: Buffers, num_rows: int) -> None:
        """Copy the first rows of every buffer [1, N, rows, d] to the one of its name, before what
        is started next."""
        for name, buffer in source.items():
            self.gpu.copy_rows(buffer, target[name], num_rows)

    def check(self, name: str, array: np.ndarray) -> np.ndarray:
        """The array as this plan takes it (contiguous); ValueError if it is not that input."""
        if name not in self.inputs:
            raise ValueError(f"{self.path.name} has no input {name!r}, it has {list(self.inputs)}")
        return check_array(self.manifest.inputs[name], array, f"{self.path.name}: {name}")


class TensorRTBinding:
    """One plan on one set of buffers, with its own context and captured graph."""

    def __init__(self, engine: TensorRTEngine, reads: Buffers, writes: Buffers) -> None:
        self.engine, gpu = engine, engine.gpu
        strategy = gpu.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = engine.engine.create_execution_context(strategy)
        if self._context is None:
            raise RuntimeError(f"{engine.path.name}: no execution context: {gpu.log.last}")
        self._bound: dict[str, DeviceBuffer] = {}
        self._mirrored = {n: a for n, a in reads.items() if isinstance(a, np.ndarray)}
        self._fed = [name for name in engine.inputs if name not in reads]
        self._check_aliases(reads, writes)
        for name in engine.inputs:
            buffer = reads.get(name)
            self._set_address(name, buffer if isinstance(buffer, DeviceBuffer) else None)
        self._filled = {n: a for n, a in writes.items() if isinstance(a, np.ndarray)}
        for name in engine.outputs:
            buffer = writes.get(name)
            self._set_address(name, buffer if isinstance(buffer, DeviceBuffer) else None)
        self._staging = {
            name: gpu.allocate_pinned(*engine.inputs[name])
            for name in (*self._fed, *self._mirrored)
        }
        self.outputs: Buffers = {
            name: gpu.allocate_pinned(self._shape_of(name), engine.outputs[name][1])
            for name in engine.outputs
            if name not in writes or name in self._filled
        }
        self._shapes: dict[str, Shape] = {}
        self._is_warm = False
        self._graph: CapturedGraph | None = None
        self._set_scratch()

    def _set_address(self, name: str, buffer: DeviceBuffer | None) -> None:
        engine = self.engine
        shape, dtype = engine.inputs.get(name) or engine.outputs[name]
        buffer = buffer or engine.gpu.allocate(shape, dtype)
        if (buffer.shape, buffer.dtype) != (shape, dtype):
            raise ValueError(
                f"{engine.path.name}: {name} is bound to {buffer.dtype}{list(buffer.shape)}, "
                f"wanted {dtype}{list(shape)}"
            )
        self._bound[name] = buffer
        if not self._context.set_tensor_address(name, buffer.address):
            raise RuntimeError(
                f"{engine.path.name}: address of {name} refused: {engine.gpu.log.last}"
            )

    def _shape_of(self, name: str) -> Shape:
        """Of an output in host memory: its largest, or that of the array that it fills."""
        if (array := self._filled.get(name)) is None:
            return self.engine.outputs[name][0]
        where = f"{self.engine.path.name}: what {name} is to fill"
        return check_array(self.engine.manifest.outputs[name], array, where).shape

    def _set_scratch(self) -> None:
        num_bytes = self.engine.scratch_bytes
        if num_bytes:
            self._scratch = self.engine.gpu.scratch(num_bytes)
            self._context.set_device_memory(self._scratch.address, self._scratch.num_bytes)

    def _check_aliases(self, reads: Buffers, writes: Buffers) -> None:
        """Outputs that the plan writes over an input must be that input's buffer, and no others.

        A cache bound twice to a plan that does not update it in place would be read while it is
        overwritten; one bound to two buffers would lose what was written.
        """
        holder = {id(buffer): name for name, buffer in reads.items()}
        for name in self.engine.outputs:
            planned = self.engine.engine.get_aliased_input_tensor(name) or None
            bound = holder.get(id(writes[name])) if name in writes else None
            if planned != bound:
                raise ValueError(
                    f"{self.engine.path.name}: {name} is written in place of {planned}, "
                    f"but is bound to the buffer of {bound}"
                )

    def run(self, inputs: Mapping[str, np.ndarray]) -> Buffers:
        """Run with the inputs that are not bound; the outputs hold until the next run."""
        if sorted(inputs) != sorted(self._fed):
            raise ValueError(
                f"{self.engine.path.name}: got inputs {sorted(inputs)}, wanted {sorted(self._fed)}"
            )
        gpu = self.engine.gpu
        for name, array in {**inputs, **self._mirrored}.items():
            self._feed(name, self.engine.check(name, array))
        self._start()
        for name, pinned in self.outputs.items():
            gpu.download(self._bound[name], pinned)
        gpu.wait()
        self._is_warm = True
        results = {name: self._widened(name, pinned) for name, pinned in self.outputs.items()}
        for name, array in self._filled.items():
            array[...] = results.pop(name)
        return results

    def _feed(self, name: str, array: np.ndarray) -> None:
        if self._shapes.get(name) != array.shape:
            if not self._context.set_input_shape(name, array.shape):
                raise RuntimeError(
                    f"{self.engine.path.name}: shape {list(array.shape)} of {name} refused: "
                    f"{self.engine.gpu.log.last}"
                )
            self._shapes[name] = array.shape
            self._graph, self._is_warm = None, False
        pinned = self._staging[name].reshape(-1)[: array.size]
        narrow = self.engine.inputs[name][1] == "bfloat16"
        pinned[:] = (to_bfloat16(array) if narrow else array).reshape(-1)
        self.engine.gpu.upload(pinned, self._bound[name])

    def _start(self) -> None:
        """The first run allocates and chooses, so it is not captured."""
        if self._graph is None and self._is_warm:
            self._graph = self.engine.gpu.capture(self._execute)
        if self._graph is None:
            self._execute()
        else:
            self._graph.launch()

    def _execute(self) -> None:
        gpu = self.engine.gpu
        if not self._context.execute_async_v3(int(gpu.stream)):
            raise RuntimeError(f"{self.engine.path.name}: TensorRT failed: {gpu.log.last}")

    def _widened(self, name: str, pinned: np.ndarray) -> np.ndarray:
        return from_bfloat16(pinned) if self.engine.outputs[name][1] == "bfloat16" else pinned


def plan_loader(device: int, cuda: Any = None, trt: Any = None) -> Callable[..., TensorRTEngine]:
    """What loads `x.plan` where a stage or a decoder asks for `x.onnx`, all on one GPU."""
    gpu = Gpu(device, cuda, trt)

    def load(path: Path, num_threads: int = 1) -> TensorRTEngine:
        return TensorRTEngine(path.with_suffix(".plan"), gpu)

    return load


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(
            f"engine 'tensorrt' needs the module {name} ({error}): serve from the image of "
            "deploy/Dockerfile, or on a CPU with configs/cpu.pbtxt"
        ) from error


def _log_of(trt: Any) -> Any:
    """TensorRT's messages into ours; `last` is the last error, for exceptions to quote."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = "no reason given"

        def log(self, severity: Any, message: str) -> None:
            if severity.name in ("ERROR", "INTERNAL_ERROR"):
                self.last = message
                logger.error("TensorRT: %s", message)
            elif severity.name == "WARNING":
                logger.warning("TensorRT: %s", message)

    return Log()


def _quietly(free: Callable[..., Any], *args: Any) -> None:
    """Called by the garbage collector, where nobody can catch what goes wrong."""
    try:
        free(*args)
    except Exception as error:
        logger.warning("GPU memory could not be freed: %s", error)
