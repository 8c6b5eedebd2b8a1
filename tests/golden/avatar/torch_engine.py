"""An engine's interface around an eager PyTorch module, so that drivers run on either."""

import functools
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from export.graphs.graph import Graph
from pipeline.engines.base import Buffers


class TorchEngine:
    """What `pipeline.engines.onnx.Engine` offers a driver, for the module of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.module: nn.Module = graph.module
        self.output_names = list(graph.output_names)
        self.examples = dict(graph.inputs)
        self.inputs = {name: _kind(example) for name, example in self.examples.items()}

    @functools.cached_property
    def outputs(self) -> dict[str, tuple[tuple[int, ...], type]]:
        with torch.inference_mode():
            values = self.module(**self.examples)
        values = values if isinstance(values, tuple) else (values,)
        return dict(zip(self.output_names, map(_kind, values), strict=True))

    def allocate(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        return np.zeros(shape, dtype)

    def new_buffers(self, *prefixes: str) -> Buffers:
        return {
            name: self.allocate(shape, np.float32)
            for name, (shape, _) in self.inputs.items()
            if name.startswith(prefixes)
        }

    def bind(self, reads: Buffers, writes: Buffers) -> "TorchBinding":
        return TorchBinding(self, reads, writes)

    def copy_rows(self, source: Buffers, target: Buffers, num_rows: int) -> None:
        """Copy the first rows of every buffer [1, N, rows, d] to the one of its name."""
        for name, array in source.items():
            target[name][:, :, :num_rows] = array[:, :, :num_rows]


def _kind(example: torch.Tensor) -> tuple[tuple[int, ...], type]:
    return tuple(example.shape), np.int64 if example.dtype == torch.int64 else np.float32


class TorchBinding:
    """Runs the module, copies what it returns into the bound memory and hands out the rest."""

    def __init__(self, engine: TorchEngine, reads: Buffers, writes: Buffers) -> None:
        self._engine, self._reads, self._writes = engine, reads, writes

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, np.ndarray]) -> Buffers:
        arrays = {**self._reads, **inputs}
        assert set(arrays) == set(self._engine.inputs), "a driver feeds exactly the inputs"
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(arrays[name]))
            for name in self._engine.inputs
        }
        values = self._engine.module(**tensors)
        values = values if isinstance(values, tuple) else (values,)
        outputs = {
            name: value.numpy()
            for name, value in zip(self._engine.output_names, values, strict=True)
        }
        for name, array in self._writes.items():
            array[...] = outputs.pop(name)
        return outputs
