"""A graph computed by PyTorch, ONNX Runtime or TensorRT, block by block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from export.engines.build import EngineBuilder, Target, build_all
from export.graphs.exporter import export_preset
from export.graphs.graph import Graph
from networks.presets import Preset
from pipeline.engines.base import BoundGraph, Buffers
from pipeline.engines.gpu import Gpu
from pipeline.engines.tensorrt import TensorRTEngine

LIMIT, BFLOAT16_LIMIT = 1e-4, 5e-2
"""Error as a share of an output's largest number: what float32 programs differ by, and what plans
in bfloat16 do, of 8 bits of mantissa; the fixtures' guide for it is 3e-2 per call."""
GREY_LEVELS, BFLOAT16_GREY_LEVELS = 1, 16
"""Frames are rounded to 8 bits: where two programs straddle a half they differ by one."""
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
}

Arrays = dict[str, NDArray[Any]]


class Side(Protocol):
    """One program that computes a graph."""

    def run(self, arrays: Arrays) -> Arrays:
        """All outputs for a block, whose every input is in `arrays`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What computes a folder's graphs besides PyTorch."""

    name: str
    open: Callable[[Graph], Side]
    limit: float = LIMIT
    grey_levels: float = GREY_LEVELS
    num_actors: int = 2  # speakers that its graphs take; a plan is built for one


class TorchSide:
    """Eager PyTorch in float32: what the others are compared with."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def run(self, arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            result = self._graph.module(**{k: torch.tensor(arrays[k]) for k in self._graph.inputs})
        results = result if isinstance(result, tuple) else (result,)
        names = self._graph.output_names
        return {name: t.numpy() for name, t in zip(names, results, strict=True)}


class OnnxSide:
    """ONNX Runtime on a CPU."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        path = folder / f"{graph.name}.onnx"
        self._session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self._types = {value.name: TYPES[value.type] for value in self._session.get_inputs()}
        self._names = list(graph.output_names)

    def run(self, arrays: Arrays) -> Arrays:
        typed = {name: arrays[name].astype(kind) for name, kind in self._types.items()}
        return dict(zip(self._names, self._session.run(self._names, typed), strict=True))


class EngineSide:
    """A TensorRT plan. Its caches stay on the GPU, written in place as when it is served: those
    that come in later than with the first block are not looked at."""

    def __init__(self, graph: Graph, engine: TensorRTEngine) -> None:
        self._graph, self._engine = graph, engine
        self._cache: Buffers = engine.new_buffers("cache_")
        self._written = {n.replace("cache_", "present_", 1): b for n, b in self._cache.items()}
        self._filled: Arrays = {}
        self._binding: BoundGraph | None = None

    def run(self, arrays: Arrays) -> Arrays:
        gpu = self._engine.gpu
        if self._binding is None:
            for name, buffer in self._cache.items():
                gpu.write(arrays[name], buffer)
            self._filled = self._open_outputs(arrays)
            self._binding = self._engine.bind(self._cache, {**self._written, **self._filled})
        fed = {n: self._typed(n, arrays[n]) for n in self._engine.inputs if n not in self._cache}
        outputs = {name: array.copy() for name, array in self._binding.run(fed).items()}
        outputs |= {name: array.copy() for name, array in self._filled.items()}
        outputs |= {name: gpu.read(buffer) for name, buffer in self._written.items()}
        return {name: outputs[name] for name in self._graph.output_names}

    def _open_outputs(self, arrays: Arrays) -> Arrays:
        """Memory for the outputs whose size those of the inputs decide."""
        opened = self._graph.dynamic.items()
        sizes = {axis: arrays[n].shape[i] for n, axes in opened for i, axis in axes.items()}
        made: Arrays = {}
        for name, axes in self._graph.output_axes.items():
            shape = enumerate(self._engine.manifest.outputs[name].largest)
            made[name] = np.zeros([sizes.get(axes.get(i, ""), n) for i, n in shape], np.float32)
        return made

    def _typed(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        kind = self._engine.inputs[name][1]
        return array.astype("float32" if kind == "bfloat16" else kind)


def onnx_runtime(folder: Path, limit: float = LIMIT) -> Program:
    if limit <= 0:
        raise ValueError(f"limit is {limit:g}, wanted a positive number")
    return Program(name="ONNX Runtime", open=lambda graph: OnnxSide(graph, folder), limit=limit)


def tensorrt_program(preset: Preset, folder: Path, components: Sequence[str]) -> Program:
    """Graphs in bfloat16 and plans of them, built from `folder/weights` on this machine's GPU;
    RuntimeError says what the machine lacks."""
    gpu = Gpu(0)
    gpu.memory()  # libraries without a device fail here
    graphs, plans = folder / "graphs_bf16", folder / "engines"
    export_preset(preset, folder / "weights", graphs, dtype="bf16", components=components)
    build_all(EngineBuilder(Target()), graphs, plans)
    return program_of(plans, gpu)


def program_of(plans: Path, gpu: Gpu) -> Program:
    """The plans of a folder on a GPU."""
    return Program(
        name="TensorRT",
        open=lambda graph: EngineSide(graph, TensorRTEngine(plans / f"{graph.name}.plan", gpu)),
        limit=BFLOAT16_LIMIT,
        grey_levels=BFLOAT16_GREY_LEVELS,
        num_actors=1,
    )
