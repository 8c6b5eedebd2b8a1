"""The avatar's graphs as PyTorch runs them, behind the interface of `pipeline.engines.base`.

A `Stage` or `Decoder` with these has the plans, caches, tables and inputs of one that runs ONNX
Runtime: both work on the same arrays. Caches are written in place, as an implementation by hand
would.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu_experiment.in_place import run_in_place
from export.graphs import dit, vae
from networks.presets import PRESETS
from pipeline.engines.base import Array, Arrays, BoundGraph, Buffers
from pipeline.engines.onnx import Engine

Modules = dict[str, nn.Module]
COMPILED = ("dit_embed", "dit_step", "vae_decoder")
"""What runs for every block. The others run once in a session."""


def modules_of(preset: str, weights: Path) -> Modules:
    """By the name of the graph that is exported from it, with the weights of that folder."""
    run_in_place()
    made = PRESETS[preset]
    graphs = [*dit.graphs(made, weights), *vae.graphs(made, weights)]
    return {graph.name: graph.module.eval().requires_grad_(False) for graph in graphs}


class TorchGraph(Engine):
    """A graph of `modules`; names and shapes of its tensors are those of the .onnx file.

    With `compiles`, torch.compile takes the calls of the steady state, when all keys of the cache
    are seen. While the ring of a session fills, shapes change from block to block, and the module
    runs as it is.
    """

    def __init__(self, path: Path, modules: Modules, *, compiles: bool = False) -> None:
        super().__init__(path)
        self.module: Callable[..., Any] = modules[path.stem]
        self.compiled: Callable[..., Any] | None = None
        if compiles and path.stem in COMPILED:
            self.compiled = torch.compile(modules[path.stem], dynamic=False)

    def bind(self, reads: Buffers, writes: Buffers) -> Any:
        return TorchBinding(self, reads, writes)

    def run_module(self, inputs: dict[str, Tensor]) -> Sequence[Tensor]:
        """Outputs in the graph's order."""
        run = self.module
        if self.compiled is not None and self._is_steady(inputs):
            run = self.compiled
        with torch.inference_mode():
            made = run(**inputs)
        return (made,) if isinstance(made, Tensor) else made

    def _is_steady(self, inputs: dict[str, Tensor]) -> bool:
        """Whether all keys of the cache are seen; a graph without a cache has one shape."""
        if "cos_k" not in inputs:
            return True
        return inputs["cos_k"].shape[1] == inputs["cache_k_0"].shape[2]


class TorchBinding(BoundGraph):
    """A module on one set of arrays, which its tensors share."""

    def __init__(self, engine: TorchGraph, reads: Buffers, writes: Buffers) -> None:
        super().__init__(engine, reads)
        self._engine = engine
        self._reads = {name: torch.from_numpy(array) for name, array in reads.items()}
        self.outputs: Buffers = {}
        self._writes: list[Tensor] = []
        for name, (shape, dtype) in engine.outputs.items():
            array: Array = writes[name] if name in writes else np.zeros(shape, dtype)
            if name not in writes:
                self.outputs[name] = array
            self._writes.append(torch.from_numpy(array))

    def run_checked(self, inputs: Arrays) -> Buffers:
        given = {name: torch.from_numpy(array) for name, array in inputs.items()}
        made = self._engine.run_module({**self._reads, **given})
        for target, result in zip(self._writes, made, strict=True):
            if target.data_ptr() != result.data_ptr():
                target.copy_(result)
        return self.outputs
