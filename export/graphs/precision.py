"""Graphs that compute in bfloat16 or float16, with 8-bit linear layers if wanted.

Who feeds a graph need not know its precision: tensors that come and go with every call stay
float32 and are rounded inside. What lives on the device has the precision of the arithmetic.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.checkpoint.files import TensorInfo, Weights
from export.graphs.graph import Graph
from pipeline.engines.manifest import ON_DEVICE


@dataclass(frozen=True, slots=True)
class Precision:
    """The element type of weights and arithmetic."""

    dtype: torch.dtype
    narrow: bool = False  # the DiT's linear layers are e4m3


PRECISIONS = {
    "fp32": Precision(torch.float32),
    "fp16": Precision(torch.float16),
    "bf16": Precision(torch.bfloat16),
    "fp8": Precision(torch.bfloat16, narrow=True),
    "fp8-fp16": Precision(torch.float16, narrow=True),
}
"""fp32, fp16 and fp8-fp16 for ONNX Runtime; all but fp32 for TensorRT."""


class InPrecision(nn.Module):
    """A graph's module in `dtype`, float32 outside but for what stays on the device."""

    def __init__(self, graph: Graph, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = graph.module
        self._dtype, self._outputs = dtype, tuple(graph.output_names)

    def forward(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        result = self.module(**{name: self._inward(tensor) for name, tensor in inputs.items()})
        results = result if isinstance(result, tuple) else (result,)
        return tuple(map(self._outward, self._outputs, results))

    def _inward(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def _outward(self, name: str, tensor: Tensor) -> Tensor:
        keep = name.startswith(ON_DEVICE) or not tensor.is_floating_point()
        return tensor if keep else tensor.float()


def in_precision(graph: Graph, dtype: torch.dtype) -> Graph:
    """The graph computing in `dtype`; its weights' file must hold that type.

    The graph's module is changed. It must be of fake tensors: no number is rounded here.
    """
    if dtype == torch.float32:
        return graph
    retype(graph.module, dtype)
    return dataclasses.replace(
        graph,
        module=InPrecision(graph, dtype).eval(),
        inputs={
            name: tensor.to(dtype) if name.startswith(ON_DEVICE) else tensor
            for name, tensor in graph.inputs.items()
        },
        key_of={f"module.{name}": key for name, key in graph.key_of.items()},
    )


def retype(module: nn.Module, dtype: torch.dtype) -> None:
    """Replace all floats by empty ones of `dtype`, but for 8-bit ones."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and tensor.is_floating_point() and tensor.itemsize > 1:
                    empty = torch.empty_like(tensor, dtype=dtype)
                    tensors[name] = nn.Parameter(empty, requires_grad=False)


class RoundedWeights:
    """Weights whose floats are of one element type; converted whenever they are read."""

    def __init__(self, source: Weights, dtype: torch.dtype) -> None:
        self.source, self.files = source, source.files
        self.infos: Mapping[str, TensorInfo] = {
            key: TensorInfo(
                dtype=dtype if info.dtype.is_floating_point else info.dtype, shape=info.shape
            )
            for key, info in source.infos.items()
        }

    def chunks(self, key: str) -> Iterator[Tensor]:
        for rows in self.source.chunks(key):
            yield rows.to(self.infos[key].dtype)
