"""One GPU of this process: its device, its stream, its memory. Every call of CUDA stands here.

None of this has run on a GPU: tests drive it with a stand-in for both libraries.
"""

import contextlib
import ctypes
import importlib.util
import logging
import math
import mmap
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.engines.base import Array
from pipeline.engines.host_arrays import narrowed, storage_type, widened
from pipeline.engines.manifest import BYTES, Machine

logger = logging.getLogger(__name__)

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
        self._released: deque[tuple[str, Any]] = deque()
        self._is_capturing = False
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

    def free_with(self, owner: object, name: str, resource: Any) -> None:
        """Call a function of the CUDA runtime on `resource` once `owner` is gone; not at exit.

        The garbage collector may find the owner gone in the middle of a capture, which a call such
        as cudaFree would spoil. It then waits for the end of the capture.
        """
        weakref.finalize(owner, self._release, name, resource).atexit = False

    def _release(self, *freed: Any) -> None:
        self._released.append(freed)
        self._free_released()

    def _free_released(self) -> None:
        with contextlib.suppress(IndexError):  # until there is nothing left
            while not self._is_capturing:
                _quietly(self.call, *self._released.popleft())

    def machine(self) -> Machine:
        """What a plan must have been built for."""
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
        num_bytes = _bytes_of(shape, dtype)
        try:
            (address,) = self.call("cudaMalloc", num_bytes)
        except RuntimeError as error:
            free, total = (size / 1e9 for size in self.memory())
            wanted = f"wanted {num_bytes / 1e9:.3f} GB, {free:.3f} of {total:.3f} GB are free"
            raise RuntimeError(f"{error}; {wanted}") from error
        address = int(address)
        buffer = DeviceBuffer(address=address, shape=shape, dtype=dtype, num_bytes=num_bytes)
        self.free_with(buffer, "cudaFree", address)
        self.call("cudaMemsetAsync", address, 0, num_bytes, self.stream)
        return buffer

    def allocate_pinned(self, shape: Shape, dtype: str) -> Array:
        """Host memory that the GPU copies from and to by itself, as an array."""
        num_bytes = _bytes_of(shape, dtype)
        (address,) = self.call("cudaMallocHost", num_bytes)
        memory = (ctypes.c_char * num_bytes).from_address(int(address))
        self.free_with(memory, "cudaFreeHost", address)
        numbers = np.frombuffer(memoryview(memory), storage_type(dtype), math.prod(shape))
        return numbers.reshape(shape)

    def load(self, plan: Path, streams_weights: bool) -> Any:
        """A plan's engine, read from the file as it is loaded; RuntimeError in TensorRT's words.

        Weights that are streamed stay in host memory, as many as there are.
        """
        self.memory()  # TensorRT allocates on the thread's device, which a first call sets
        with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            engine = self.runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise RuntimeError(f"{plan.name}: TensorRT cannot load it: {self.log.last}")
        if streams_weights:
            engine.weight_streaming_budget_v2 = 0
        return engine

    def scratch(self, num_bytes: int) -> DeviceBuffer:
        """The contexts' common activation memory, of at least this size."""
        if self._scratch is None or self._scratch.num_bytes < num_bytes:
            self._scratch = self.allocate((num_bytes,), "uint8")
        return self._scratch

    def upload(self, source: Array, target: DeviceBuffer) -> None:
        """Start a copy from pinned memory, as many bytes as the source has."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        places = target.address, source.ctypes.data
        self.call("cudaMemcpyAsync", *places, source.nbytes, kind, self.stream)

    def download(self, source: DeviceBuffer, target: Array) -> None:
        """Start a copy to pinned memory, as many bytes as the target has."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        places = target.ctypes.data, source.address
        self.call("cudaMemcpyAsync", *places, target.nbytes, kind, self.stream)

    def copy_rows(self, source: DeviceBuffer, target: DeviceBuffer, num_rows: int) -> None:
        """Start a copy of the first rows (axis 2) of a buffer [1, N, rows, d] to one like it."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        heads, whole, first = _rows_of(source, num_rows)
        places = target.address, whole, source.address, whole
        self.call("cudaMemcpy2DAsync", *places, first, heads, kind, self.stream)

    def download_rows(self, source: DeviceBuffer, target: Array, num_rows: int) -> None:
        """Start a copy of the first rows (axis 2) of a buffer [1, N, rows, d] to pinned bytes."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        heads, whole, first = _rows_of(source, num_rows)
        places = target.ctypes.data, first, source.address, whole
        self.call("cudaMemcpy2DAsync", *places, first, heads, kind, self.stream)

    def upload_rows(self, source: Array, target: DeviceBuffer, num_rows: int) -> None:
        """The counterpart of `download_rows`."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        heads, whole, first = _rows_of(target, num_rows)
        places = target.address, whole, source.ctypes.data, first
        self.call("cudaMemcpy2DAsync", *places, first, heads, kind, self.stream)

    def wait(self) -> None:
        """Until all that was started is done; errors of it show up here."""
        self.call("cudaStreamSynchronize", self.stream)

    def read(self, buffer: DeviceBuffer) -> Array:
        """The numbers of a buffer, bfloat16 widened to float32; for tests and inspection."""
        pinned = self.allocate_pinned(buffer.shape, buffer.dtype)
        self.download(buffer, pinned)
        self.wait()
        return widened(pinned, buffer.dtype).copy()

    def write(self, array: Array, buffer: DeviceBuffer) -> None:
        """Set the numbers of a buffer, rounded to its type; the counterpart of `read`."""
        pinned = self.allocate_pinned(buffer.shape, buffer.dtype)
        pinned[...] = narrowed(array, buffer.dtype)
        self.upload(pinned, buffer)
        self.wait()

    def capture(self, start: Callable[[], None]) -> "CapturedGraph":
        """What `start` puts on the stream, recorded instead of run; RuntimeError says why not."""
        self._is_capturing = True
        try:
            graph = self._recorded(start)
            try:
                return CapturedGraph(self, self.call("cudaGraphInstantiate", graph, 0)[0])
            finally:
                self.call("cudaGraphDestroy", graph)
        finally:
            self.cuda.cudaGetLastError()  # else whoever asks next hears of a failure that is over
            self._is_capturing = False
            self._free_released()

    def _recorded(self, start: Callable[[], None]) -> Any:
        mode = self.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", self.stream, mode)
        try:
            start()
        except BaseException:  # its words say more than those of the capture that it spoilt
            with contextlib.suppress(RuntimeError):
                self.call("cudaGraphDestroy", *self.call("cudaStreamEndCapture", self.stream))
            raise
        return self.call("cudaStreamEndCapture", self.stream)[0]


class CapturedGraph:
    """A CUDA graph that is ready to be launched."""

    def __init__(self, gpu: Gpu, executable: Any) -> None:
        self._gpu, self._executable = gpu, executable
        gpu.free_with(self, "cudaGraphExecDestroy", executable)

    def launch(self) -> None:
        self._gpu.call("cudaGraphLaunch", self._executable, self._gpu.stream)


def _rows_of(buffer: DeviceBuffer, num_rows: int) -> tuple[int, int, int]:
    """Of a buffer [1, N, rows, d]: N, bytes of a head, and bytes of its first rows."""
    _, heads, rows, size = buffer.shape
    row = size * BYTES[buffer.dtype]
    return heads, rows * row, num_rows * row


def _bytes_of(shape: Shape, dtype: str) -> int:
    """At least 1: CUDA gives no address for nothing."""
    return max(BYTES[dtype] * math.prod(shape), 1)


def import_tensorrt() -> Any:
    """The module `tensorrt`, for all who import it afterwards; ImportError if it is not here.

    The wheel of its bindings calls it `tensorrt_bindings`.
    """
    if importlib.util.find_spec("tensorrt") is None:
        sys.modules["tensorrt"] = importlib.import_module("tensorrt_bindings")
    return importlib.import_module("tensorrt")


def _library(name: str) -> Any:
    try:
        return import_tensorrt() if name == "tensorrt" else importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(
            f"engine 'tensorrt' needs the module {name} ({error}): serve from the image of "
            "deploy/Dockerfile, or on a CPU with configs/cpu.pbtxt"
        ) from error


def _log_of(trt: Any) -> Any:
    """TensorRT's messages into ours; `last` is the last error, for exceptions to quote."""

    class Log(trt.ILogger):  # type: ignore[misc, unused-ignore]
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
