"""The module `tensorrt` as far as the server uses it, with plans that torch runs.

A `TorchPlan` is a function of tensors with named inputs and outputs. Its plan file holds its name
only. The tensors lie at the addresses that a context was given. Outputs named present_* are written
in place of cache_*, which the function does itself.
"""

# ruff: noqa: N802, ARG002, D106, the names and arguments are TensorRT's
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_experiment.device import Device
from pipeline.engines.gpu import Gpu
from pipeline.engines.manifest import Manifest, TensorSpec, manifest_path

Axes = tuple[int | str, ...]
Values = Mapping[str, tuple[Axes, str]]
"""Name -> sizes or names of axes, and element type."""
Ranges = Mapping[str, tuple[int, int, int]]
NAMES = {
    "float32": "FLOAT",
    "float16": "HALF",
    "bfloat16": "BF16",
    "int64": "INT64",
    "uint8": "UINT8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchPlan:
    """`run` takes the inputs by name and returns the outputs in order."""

    name: str
    inputs: Values
    outputs: Values
    run: Callable[..., Sequence[Tensor]]
    profiles: Sequence[Ranges] = ({},)

    def shapes(self, name: str, profile: int) -> list[tuple[int, ...]]:
        """Smallest, usual and largest shape of an input or output."""
        axes, _ = {**self.inputs, **self.outputs}[name]
        ranges = self.profiles[profile]
        return [tuple(a if isinstance(a, int) else ranges[a][i] for a in axes) for i in range(3)]

    def save(self, folder: Path, gpu: Gpu) -> Path:
        """Write the plan and its manifest, as built on this machine; returns the plan's path."""
        path = folder / f"{self.name}.plan"
        path.write_text(json.dumps(self.name))
        inputs, outputs = (
            {name: self._spec(name) for name in side} for side in (self.inputs, self.outputs)
        )
        Manifest(
            graph=self.name,
            machine=gpu.machine(),
            gpu_memory_bytes=gpu.memory()[1],
            opset=24,
            precision="torch",
            sources={},
            weights_bytes=0,
            scratch_bytes=0,
            plan_bytes=path.stat().st_size,
            builder_flags=(),
            build_seconds=0.0,
            inputs=inputs,
            outputs=outputs,
        ).save(manifest_path(path))
        return path

    def _spec(self, name: str) -> TensorSpec:
        every = [self.shapes(name, number) for number in range(len(self.profiles))]
        low, high = (
            tuple(least(sizes) for sizes in zip(*(shapes[end] for shapes in every), strict=True))
            for end, least in ((0, min), (2, max))
        )
        dtype = {**self.inputs, **self.outputs}[name][1]
        return TensorSpec(dtype=dtype, smallest=low, largest=high)


class Mode(enum.Enum):
    """Which way a tensor goes."""

    INPUT = 1
    OUTPUT = 2


class TorchTensorRT:
    """The module `tensorrt` on a device; `plans` may be added to at any time."""

    TensorIOMode = Mode
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")
    __version__ = f"torch {torch.__version__}"

    class ILogger:
        def __init__(self) -> None:
            pass

    def __init__(self, device: Device) -> None:
        self.device = device
        self.plans: dict[str, TorchPlan] = {}
        self.during_capture: Callable[[], object] = lambda: None
        """Called on the capturing thread while an execution is captured."""

    def Runtime(self, log: Any) -> Any:
        def load(data: Any) -> Engine:
            return Engine(self, self.plans[json.loads(bytes(data[:]))], log)

        return SimpleNamespace(deserialize_cuda_engine=load)


class Engine:
    """One plan, loaded."""

    def __init__(self, trt: TorchTensorRT, plan: TorchPlan, log: Any) -> None:
        self.trt, self.plan, self.log = trt, plan, log
        self.io = {**plan.inputs, **plan.outputs}
        self.num_io_tensors = len(self.io)
        self.num_optimization_profiles = len(plan.profiles)

    def get_device_memory_size_for_profile_v2(self, number: int) -> int:
        return 4096

    def get_tensor_profile_shape(self, name: str, number: int) -> list[tuple[int, ...]]:
        return self.plan.shapes(name, number)

    def get_tensor_name(self, index: int) -> str:
        return list(self.io)[index]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name in self.plan.inputs else Mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=NAMES[self.io[name][1]])

    def get_aliased_input_tensor(self, name: str) -> str | None:
        return name.replace("present_", "cache_") if name.startswith("present_") else None

    def create_execution_context(self, strategy: str) -> "Context":
        return Context(self)


class Context:
    """One plan on one set of addresses."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._trt = engine, engine.trt
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._sizes: dict[str, int] = {}
        self._profile = 0
        self._seen: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        """Views that a first run has made, for the capture to make none."""

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self._profile = number
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_device_memory(self, address: int, size: int) -> None:
        pass

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine.plan.shapes(name, self._profile)
        axes = self._engine.io[name][0]
        self._shapes[name] = shape
        self._sizes |= {a: n for a, n in zip(axes, shape, strict=True) if isinstance(a, str)}
        return all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        axes = self._engine.io[name][0]
        return tuple(a if isinstance(a, int) else self._sizes.get(a, -1) for a in axes)

    def execute_async_v3(self, stream: int) -> bool:
        """False, with the words in the log, if torch or CUDA refuses."""
        shapes = dict(self._shapes)
        try:
            if self._trt.device.is_capturing(stream):
                self._trt.during_capture()
            self._trt.device.start(stream, lambda: self._run(shapes))
        except RuntimeError as error:
            self._engine.log.log(SimpleNamespace(name="ERROR"), str(error))
            return False
        return True

    @torch.inference_mode()
    def _run(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        plan = self._engine.plan
        inputs = {name: self._view(name, shapes[name]) for name in plan.inputs}
        for name, result in zip(plan.outputs, plan.run(**inputs), strict=True):
            target = self._view(name, tuple(result.shape))
            if target.data_ptr() != result.data_ptr():
                target.copy_(result)

    def _view(self, name: str, shape: tuple[int, ...]) -> Tensor:
        key = self._addresses[name], shape
        if key not in self._seen:
            dtype = self._engine.io[name][1]
            self._seen[key] = self._trt.device.tensor(*key, dtype)
        return self._seen[key]
