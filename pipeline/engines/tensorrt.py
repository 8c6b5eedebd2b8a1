"""TensorRT behind the interface of `pipeline.engines.base`.

A `TensorRTEngine` is one plan on a `Gpu`, a `TensorRTBinding` that plan on one set of buffers with
an execution context of its own. Addresses are set once. A binding's first run of a shape is also
captured as a CUDA graph, which the next runs of that shape launch. Only the copies of what comes
and goes, through pinned memory, stay outside the capture. The contexts of a process run one after
another and share one block of scratch memory.
"""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.engines.base import (
    Array,
    Arrays,
    BoundGraph,
    Buffers,
    LoadedGraph,
    rows_per_buffer,
)
from pipeline.engines.gpu import CapturedGraph, DeviceBuffer, Gpu, Shape
from pipeline.engines.host_arrays import check_within, narrowed, widened
from pipeline.engines.manifest import Manifest, TensorSpec, manifest_path

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


class TensorRTEngine(LoadedGraph):
    """A plan on a GPU; shapes are the largest over its profiles."""

    inputs: dict[str, tuple[Shape, str]]
    outputs: dict[str, tuple[Shape, str]]

    def __init__(self, path: Path, gpu: Gpu) -> None:
        """Load `path` once its manifest agrees with the machine; ValueError names what differs."""
        if not path.is_file():
            raise FileNotFoundError(f"plan {path} is missing; `make engines` builds it")
        self.path, self.gpu = path, gpu
        self.manifest = Manifest.load(manifest_path(path))
        self.manifest.check(gpu.machine())
        self.engine = gpu.load(path, self.manifest.streams_weights)
        self.inputs, self.outputs = self._tensors("INPUT"), self._tensors("OUTPUT")
        self.profiles = [self._profile(i) for i in range(self.engine.num_optimization_profiles)]

    def _profile(self, number: int) -> dict[str, TensorSpec]:
        """What the plan's inputs may be in one of its optimisation profiles."""
        specs = dict(self.manifest.inputs)
        for name, spec in specs.items():
            if spec.is_open:
                low, _, high = map(tuple, self.engine.get_tensor_profile_shape(name, number))
                specs[name] = dataclasses.replace(spec, smallest=low, largest=high)
        return specs

    def profile_of(self, buffers: Buffers) -> int:
        """The first profile that every one of the buffers fits; ValueError if there is none."""
        fitting = {
            name: [_fits(buffer, specs[name]) for specs in self.profiles]
            for name, buffer in buffers.items()
        }
        for number in range(len(self.profiles)):
            if all(fits[number] for fits in fitting.values()):
                return number
        wrong = [
            f"{name} is {buffers[name].dtype}{list(buffers[name].shape)}, wanted "
            + " or ".join(f"{specs[name].dtype}{specs[name].sizes}" for specs in self.profiles)
            for name, fits in fitting.items()
            if not all(fits)
        ]
        raise ValueError(f"{self.path.name}: bound to what is in no profile: {'; '.join(wrong)}")

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
        """Bind device buffers as inputs and outputs; arrays in `writes` are filled by every run.

        An output whose size is open must be among `writes`. ValueError says what does not fit.
        """
        return TensorRTBinding(self, reads, writes)

    def copy_rows(self, source: Buffers, target: Buffers, num_rows: int) -> None:
        """Copy the first rows of every buffer [1, N, rows, d] to the one of its name, before what
        is started next."""
        for name, buffer in source.items():
            self.gpu.copy_rows(buffer, target[name], num_rows)

    def read_rows(self, buffers: Buffers, num_rows: int) -> Array:
        sizes = [_rows_bytes(buffer, num_rows) for buffer in buffers.values()]
        pinned = self.gpu.allocate_pinned((sum(sizes),), "uint8")
        for buffer, part in zip(buffers.values(), rows_per_buffer(pinned, sizes), strict=True):
            self.gpu.download_rows(buffer, part, num_rows)
        self.gpu.wait()
        return pinned

    def write_rows(self, rows: Array, buffers: Buffers, num_rows: int) -> None:
        sizes = [_rows_bytes(buffer, num_rows) for buffer in buffers.values()]
        pinned = self.gpu.allocate_pinned((sum(sizes),), "uint8")
        np.concatenate(rows_per_buffer(rows, sizes), out=pinned)
        for buffer, part in zip(buffers.values(), rows_per_buffer(pinned, sizes), strict=True):
            self.gpu.upload_rows(part, buffer, num_rows)
        self.gpu.wait()

    def check_fit(self, name: str, array: Array) -> None:
        check_within(self.manifest.inputs[name], array, f"{self.path.name}: {name}")

    def refused(self, what: str) -> RuntimeError:
        """An error with TensorRT's last words; its calls return False or None, not more."""
        return RuntimeError(f"{self.path.name}: {what}: {self.gpu.log.last}")


class TensorRTBinding(BoundGraph):
    """One plan on one set of buffers, with its own context and captured graph.

    The buffers choose the optimisation profile: the first one whose shapes they have.
    """

    def __init__(self, engine: TensorRTEngine, reads: Buffers, writes: Buffers) -> None:
        super().__init__(engine, reads)
        self.engine, gpu = engine, engine.gpu
        strategy = gpu.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = engine.engine.create_execution_context(strategy)
        if self._context is None:
            raise engine.refused("no execution context")
        self._check_aliases(reads, writes)
        number = engine.profile_of(reads)
        if not self._context.set_optimization_profile_async(number, int(gpu.stream)):
            raise engine.refused(f"profile {number} refused")
        self._specs = engine.profiles[number]
        self._filled: Arrays = {n: a for n, a in writes.items() if isinstance(a, np.ndarray)}
        self._bound: dict[str, DeviceBuffer] = {}
        for name, spec in self._specs.items():
            self._bind(name, reads.get(name) or gpu.allocate(spec.largest, spec.dtype))
        for name, spec in engine.manifest.outputs.items():
            self._bind(name, self._written(name, spec, writes.get(name)))
        self._shapes: dict[str, Shape] = {}
        for name, buffer in reads.items():
            self._set_shape(name, buffer.shape)
        self._staging = {
            name: gpu.allocate_pinned(self._bound[name].shape, self._bound[name].dtype)
            for name in self._fed
        }
        self.outputs: Buffers = {
            name: gpu.allocate_pinned(self._bound[name].shape, self._bound[name].dtype)
            for name in engine.outputs
            if name not in writes or name in self._filled
        }
        self._graph: CapturedGraph | None = None
        self._captures = not engine.manifest.streams_weights  # these wait for their own copies
        if num_bytes := int(engine.engine.get_device_memory_size_for_profile_v2(number)):
            self._scratch = gpu.scratch(num_bytes)
            self._context.set_device_memory(self._scratch.address, self._scratch.num_bytes)

    def _bind(self, name: str, buffer: DeviceBuffer) -> None:
        self._bound[name] = buffer
        if not self._context.set_tensor_address(name, buffer.address):
            raise self.engine.refused(f"address of {name} refused")

    def _written(self, name: str, spec: TensorSpec, given: Any) -> DeviceBuffer:
        """Where an output goes: the buffer that was given, or memory of its own."""
        if isinstance(given, DeviceBuffer):
            if not _fits(given, spec):
                raise ValueError(
                    f"{self.name}: {name} is bound to {given.dtype}{list(given.shape)}, "
                    f"wanted {spec.dtype}{spec.sizes}"
                )
            return given
        if given is not None:
            check_within(spec, given, f"{self.name}: what {name} is to fill")
        elif spec.is_open:
            raise ValueError(f"{self.name}: {name} has no fixed size: give it what to fill")
        shape = spec.largest if given is None else given.shape
        return self.engine.gpu.allocate(shape, spec.dtype)

    def _set_shape(self, name: str, shape: Shape) -> None:
        if not self._context.set_input_shape(name, shape):
            raise self.engine.refused(f"shape {list(shape)} of {name} refused")
        self._shapes[name] = shape

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
        self._start()
        for name, pinned in self.outputs.items():
            gpu.download(self._bound[name], pinned)
        gpu.wait()
        results = {n: widened(p, engine.outputs[n][1]) for n, p in self.outputs.items()}
        for name, array in self._filled.items():
            array[...] = results.pop(name)
        return results

    def _feed(self, name: str, array: Array) -> None:
        if self._shapes.get(name) != array.shape:
            check_within(self._specs[name], array, f"{self.name}: {name}")
            self._set_shape(name, array.shape)
            self._graph = None
        pinned = self._staging[name].reshape(-1)[: array.size]
        pinned[:] = narrowed(array, self._specs[name].dtype).reshape(-1)
        self.engine.gpu.upload(pinned, self._bound[name])

    def _start(self) -> None:
        """Launch what was captured; or run new shapes, then capture them for the runs that follow.

        A first run allocates and chooses, so it is no part of the capture.
        """
        if self._graph is not None:
            self._graph.launch()
            return
        self._check_sizes()
        self._execute()
        if not self._captures:
            return
        try:
            self._graph = self.engine.gpu.capture(self._execute)
        except RuntimeError as error:
            self._captures = False
            logger.warning("%s runs without a captured graph: %s", self.name, error)

    def _check_sizes(self) -> None:
        """Outputs whose size is open must have that of their memory; -1 is unknown to TensorRT."""
        for name, spec in self.engine.manifest.outputs.items():
            found = list(self._context.get_tensor_shape(name)) if spec.is_open else []
            wanted = self._bound[name].shape
            if any(size not in (-1, other) for size, other in zip(found, wanted, strict=False)):
                raise ValueError(
                    f"{self.name}: {name} comes out as {found}, but is bound to {list(wanted)}"
                )

    def _execute(self) -> None:
        if not self._context.execute_async_v3(int(self.engine.gpu.stream)):
            raise self.engine.refused("TensorRT failed")


def _fits(buffer: DeviceBuffer, spec: TensorSpec) -> bool:
    return buffer.dtype == spec.dtype and spec.holds(buffer.shape)


def _rows_bytes(buffer: DeviceBuffer, num_rows: int) -> int:
    return buffer.num_bytes // buffer.shape[2] * num_rows


def plan_loader(device: int, cuda: Any = None, trt: Any = None) -> Callable[..., TensorRTEngine]:
    """What loads `x.plan` where a stage or a decoder asks for `x.onnx`, all on one GPU."""
    gpu = Gpu(device, cuda, trt)

    def load(path: Path, _num_threads: int = 1) -> TensorRTEngine:
        return TensorRTEngine(path.with_suffix(".plan"), gpu)

    return load
