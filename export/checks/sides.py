"""A graph computed by PyTorch, ONNX Runtime or TensorRT, block by block.

Each side carries its caches and decoder states on by itself, in its own precision.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from export.graphs.graph import Graph
from pipeline.engines.base import BoundGraph, Buffers
from pipeline.engines.tensorrt import TensorRTEngine

Arrays = dict[str, NDArray[Any]]
CARRIED = {"present_": "cache_", "next_state_": "state_"}
"""How names of outputs begin that are the next block's inputs, and those inputs."""
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class Side(Protocol):
    """One program that computes a graph."""

    def run(self, feeds: Arrays) -> Arrays:
        """All outputs for the next block. `feeds` names every input; what the side carries on
        itself counts in the first block alone."""


class TorchSide:
    """Eager PyTorch in float32: what the others are compared with."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._carried = graph, Arrays()

    def run(self, feeds: Arrays) -> Arrays:
        arrays = feeds | self._carried
        with torch.inference_mode():
            result = self._graph.module(**{k: torch.tensor(arrays[k]) for k in self._graph.inputs})
        results = result if isinstance(result, tuple) else (result,)
        names = self._graph.output_names
        outputs = {name: t.numpy() for name, t in zip(names, results, strict=True)}
        self._carried = _carried(outputs)
        return outputs


class OnnxSide:
    """ONNX Runtime on a CPU."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        path = folder / f"{graph.name}.onnx"
        self._session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self._types = {value.name: TYPES[value.type] for value in self._session.get_inputs()}
        self._names, self._carried = list(graph.output_names), Arrays()

    def run(self, feeds: Arrays) -> Arrays:
        arrays = feeds | self._carried
        typed = {name: arrays[name].astype(kind) for name, kind in self._types.items()}
        outputs = dict(zip(self._names, self._session.run(self._names, typed), strict=True))
        self._carried = _carried(outputs)
        return outputs


class EngineSide:
    """A TensorRT plan, its caches on the GPU and written in place as when it is served."""

    def __init__(self, graph: Graph, engine: TensorRTEngine) -> None:
        self._graph, self._engine = graph, engine
        self._cache: Buffers = engine.new_buffers("cache_")
        self._written = {n.replace("cache_", "present_", 1): b for n, b in self._cache.items()}
        self._binding: BoundGraph | None = None
        self._filled, self._carried = Arrays(), Arrays()

    def run(self, feeds: Arrays) -> Arrays:
        arrays, gpu = feeds | self._carried, self._engine.gpu
        if self._binding is None:
            for name, buffer in self._cache.items():
                gpu.write(arrays[name], buffer)
            self._filled = self._open_outputs(arrays)
            self._binding = self._engine.bind(self._cache, {**self._written, **self._filled})
        fed = {n: self._typed(n, arrays[n]) for n in self._engine.inputs if n not in self._cache}
        outputs = {name: array.copy() for name, array in self._binding.run(fed).items()}
        outputs |= {name: array.copy() for name, array in self._filled.items()}
        outputs |= {name: gpu.read(buffer) for name, buffer in self._written.items()}
        self._carried = {n: a for n, a in _carried(outputs).items() if n not in self._cache}
        return {name: outputs[name] for name in self._graph.output_names}

    def _open_outputs(self, arrays: Arrays) -> Arrays:
        """Memory for the outputs whose size those of the inputs decide."""
        opened = self._graph.dynamic.items()
        sizes = {axis: arrays[n].shape[i] for n, axes in opened for i, axis in axes.items()}
        made = Arrays()
        for name, axes in self._graph.output_axes.items():
            shape = enumerate(self._engine.manifest.outputs[name].largest)
            made[name] = np.zeros([sizes.get(axes.get(i, ""), n) for i, n in shape], np.float32)
        return made

    def _typed(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        kind = self._engine.inputs[name][1]
        return array.astype("float32" if kind == "bfloat16" else kind)


def _carried(outputs: Arrays) -> Arrays:
    return {
        new + name.removeprefix(old): array
        for name, array in outputs.items()
        for old, new in CARRIED.items()
        if name.startswith(old)
    }
