"""Where torch computes on memory that the project's `Gpu` allocated: a GPU, or in miniature this
machine's memory behind the tests' stand-in for CUDA.
"""

import ctypes
import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

GPU = "cuda:0"
CUDA: Any = torch.cuda
"""Typed too loosely to check against."""
TYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "uint8": torch.uint8,
}
"""The project's names of element types -> torch's."""
CARRIERS = {"bfloat16": ("<i2", torch.bfloat16)}
"""Types that an array interface cannot name, carried as others of their size."""


class Device(ABC):
    """`cuda` is what cuda.bindings.runtime offers, `name` torch's name of the device."""

    name: str
    cuda: Any

    @abstractmethod
    def tensor(self, address: int, shape: tuple[int, ...], dtype: str) -> Tensor:
        """The memory at an address, seen as a tensor; nothing is copied."""

    @abstractmethod
    def is_capturing(self, stream: int) -> bool:
        """Whether what is put on the stream now is recorded instead of run."""

    @abstractmethod
    def start(self, stream: int, work: Callable[[], None]) -> None:
        """Put torch's kernels of `work` on the stream."""


class RealDevice(Device):
    """The first GPU. What torch allocates for kernels comes from a pool that nothing else uses: a
    captured graph goes on writing there."""

    name = GPU

    def __init__(self) -> None:
        CUDA.init()
        self.cuda = importlib.import_module("cuda.bindings.runtime")
        self._pool = CUDA.MemPool()

    def tensor(self, address: int, shape: tuple[int, ...], dtype: str) -> Tensor:
        typestr, carried = CARRIERS.get(dtype, (f"<{_code(dtype)}", None))
        interface = {"data": (address, False), "shape": shape, "typestr": typestr, "version": 3}
        seen = torch.as_tensor(SimpleNamespace(__cuda_array_interface__=interface), device=GPU)
        return seen if carried is None else seen.view(carried)

    def is_capturing(self, stream: int) -> bool:
        with CUDA.stream(CUDA.ExternalStream(stream, GPU)):
            return bool(CUDA.is_current_stream_capturing())

    def start(self, stream: int, work: Callable[[], None]) -> None:
        external = CUDA.ExternalStream(stream, GPU)
        with CUDA.stream(external), CUDA.use_mem_pool(self._pool):
            work()


class HostDevice(Device):
    """Memory of this machine; the stand-in for CUDA keeps what is captured in a list."""

    name = "cpu"

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.cuda = importlib.import_module("tests.support.fake_gpu").FakeCuda()

    def tensor(self, address: int, shape: tuple[int, ...], dtype: str) -> Tensor:
        kind = TYPES[dtype]
        memory = (ctypes.c_char * (math.prod(shape) * kind.itemsize)).from_address(address)
        return torch.frombuffer(memory, dtype=kind).reshape(shape)

    def is_capturing(self, stream: int) -> bool:  # noqa: ARG002 - there is one
        return self.cuda.recording is not None

    def start(self, stream: int, work: Callable[[], None]) -> None:
        if self.is_capturing(stream):
            self.cuda.recording.append(work)
        else:
            work()


def open_device(is_miniature: bool) -> Device:
    return HostDevice() if is_miniature else RealDevice()


def _code(dtype: str) -> str:
    """numpy's letter and size of a type."""
    kind = TYPES[dtype]
    letter = "f" if kind.is_floating_point else "u" if kind is torch.uint8 else "i"
    return f"{letter}{kind.itemsize}"
