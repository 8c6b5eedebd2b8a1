"""TensorRT behind the interface of `pipeline.engines.base`.

A `TensorRTEngine` is one plan on a `Gpu`, a `TensorRTBinding` that plan on one set of buffers with
an execution context of its own. Addresses are set once. From its second run on a binding launches
what it has captured as a CUDA graph; only the copies of what comes and goes, through pinned memory,
stay outside the capture. The contexts of a process run one after another and share one block of
scratch memory.
"""

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.engines.base import Array, Arrays, BoundGraph, Buffers, LoadedGraph
from pipeline.engines.gpu import CapturedGraph, DeviceBuffer, Gpu, Shape
from pipeline.engines.host_arrays import check_within, narrowed, widened
from pipeline.engines.manifest import Manifest, manifest_path

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


class TensorRTEngine(LoadedGraph):
    """A plan on a GPU; shapes are the largest of its profile."""

    inputs: dict[str, tuple[Shape, str]]
    outputs: dict[str, tuple[Shape, str]]

    def __init__(self, path: Path, gpu: Gpu) -> None:
        """Load `path` once its manifest agrees with the machine; ValueError names what differs."""
        if not path.is_file():
            raise FileNotFoundError(f"plan {path} is missing; `make engines` builds it")
        self.path, self.gpu = path, gpu
        self.manifest = Manifest.load(manifest_path(path))
        self.manifest.check(gpu.machine())
        gpu.memory()  # TensorRT allocates on the thread's device, which a first call sets
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan:
            self.engine = gpu.runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise self.refused("TensorRT cannot load it")
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

    def allocate(self, shape: Shape, dtype: str) -> DeviceBuffer:
        return self.gpu.allocate(shape, dtype)

    def bind(self, reads: Buffers, writes: Buffers) -> "TensorRTBinding":
        """Bind device buffers as inputs and outputs. Arrays in `reads` are brought along anew for
        every run, since their owner may have changed them; arrays in `writes` are filled by it.
        """
        return TensorRTBinding(self, reads, writes)

    def copy_rows(self, source: Buffers, target: Buffers, num_rows: int) -> None:
        """Copy the first rows of every buffer [1, N, rows, d] to the one of its name, before what
        is started next."""
        for name, buffer in source.items():
            self.gpu.copy_rows(buffer, target[name], num_rows)

    def check_fit(self, name: str, array: Array) -> None:
        check_within(self.manifest.inputs[name], array, f"{self.path.name}: {name}")

    def refused(self, what: str) -> RuntimeError:
        """An error with TensorRT's last words; its calls return False or None, not more."""
        return RuntimeError(f"{self.path.name}: {what}: {self.gpu.log.last}")


class TensorRTBinding(BoundGraph):
    """One plan on one set of buffers, with its own context and captured graph."""

    def __init__(self, engine: TensorRTEngine, reads: Buffers, writes: Buffers) -> None:
        super().__init__(engine, reads)
        self.engine, gpu = engine, engine.gpu
        strategy = gpu.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = engine.engine.create_execution_context(strategy)
        if self._context is None:
            raise engine.refused("no execution context")
        self._bound: dict[str, DeviceBuffer] = {}
        self._mirrored = {n: a for n, a in reads.items() if isinstance(a, np.ndarray)}
        self._check_aliases(reads, writes)
        self._filled: Arrays = {n: a for n, a in writes.items() if isinstance(a, np.ndarray)}
        for names, buffers in ((engine.inputs, reads), (engine.outputs, writes)):
            for name in names:
                buffer = buffers.get(name)
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
                f"{self.name}: {name} is bound to {buffer.dtype}{list(buffer.shape)}, "
                f"wanted {dtype}{list(shape)}"
            )
        self._bound[name] = buffer
        if not self._context.set_tensor_address(name, buffer.address):
            raise engine.refused(f"address of {name} refused")

    def _shape_of(self, name: str) -> Shape:
        """Of an output in host memory: its largest, or that of the array that it fills."""
        if (array := self._filled.get(name)) is None:
            return self.engine.outputs[name][0]
        where = f"{self.name}: what {name} is to fill"
        check_within(self.engine.manifest.outputs[name], array, where)
        return array.shape

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
                    f"{self.name}: {name} is written in place of {planned}, "
                    f"but is bound to the buffer of {bound}"
                )

    def run_checked(self, inputs: Arrays) -> Buffers:
        gpu, engine = self.engine.gpu, self.engine
        for name, array in inputs.items():
            self._feed(name, array)
        for name, array in self._mirrored.items():
            self._feed(name, engine.check(name, array))
        self._start()
        for name, pinned in self.outputs.items():
            gpu.download(self._bound[name], pinned)
        gpu.wait()
        self._is_warm = True
        results = {n: widened(p, engine.outputs[n][1]) for n, p in self.outputs.items()}
        for name, array in self._filled.items():
            array[...] = results.pop(name)
        return results

    def _feed(self, name: str, array: Array) -> None:
        if self._shapes.get(name) != array.shape:
            if not self._context.set_input_shape(name, array.shape):
                raise self.engine.refused(f"shape {list(array.shape)} of {name} refused")
            self._shapes[name] = array.shape
            self._graph, self._is_warm = None, False
        pinned = self._staging[name].reshape(-1)[: array.size]
        pinned[:] = narrowed(array, self.engine.inputs[name][1]).reshape(-1)
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
        if not self._context.execute_async_v3(int(self.engine.gpu.stream)):
            raise self.engine.refused("TensorRT failed")


def plan_loader(device: int, cuda: Any = None, trt: Any = None) -> Callable[..., TensorRTEngine]:
    """What loads `x.plan` where a stage or a decoder asks for `x.onnx`, all on one GPU."""
    gpu = Gpu(device, cuda, trt)

    def load(path: Path, _num_threads: int = 1) -> TensorRTEngine:
        return TensorRTEngine(path.with_suffix(".plan"), gpu)

    return load
