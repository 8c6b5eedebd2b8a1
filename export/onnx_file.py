"""One graph to one `.onnx` file whose weights stay where they are, in a safetensors file."""

from __future__ import annotations

import json
import logging
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
import onnxscript.optimizer
import torch
from torch import Tensor, nn

from export.graph import Graph
from networks.layers import OPSET

TYPES = {
    "F32": ir.DataType.FLOAT,
    "F16": ir.DataType.FLOAT16,
    "BF16": ir.DataType.BFLOAT16,
    "I64": ir.DataType.INT64,
}
PRODUCER = "live-avatar-server"


class _Positional(nn.Module):
    """Calls the graph's module with its keyword tensors; the exporter flattens one list."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.module = graph.module
        self._names = list(graph.inputs)

    def forward(self, tensors: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        return self.module(**dict(zip(self._names, tensors, strict=True)))


def export_graph(graph: Graph, out_dir: Path) -> Path:
    """Write `out_dir/<graph.name>.onnx` (opset 24) and return its path.

    `out_dir/<graph.weights_file>` must be there already: initializers named in `graph.key_of`
    become references into it and bear its keys as names. Equal graphs give equal bytes. ValueError
    if a tensor in the file is missing or has another shape than the module's.
    """
    model = _trace(graph)
    _point_to_weights(model, graph, out_dir)
    _optimise(model)
    _name_axes(model, graph)
    _strip(model)
    path = out_dir / f"{graph.name}.onnx"
    ir.save(model, path)
    return path


def _trace(graph: Graph) -> ir.Model:
    axes = {
        name: torch.export.Dim(name)
        for dynamic in graph.dynamic.values()
        for name in dynamic.values()
    }
    shapes = [
        {axis: axes[name] for axis, name in graph.dynamic.get(key, {}).items()} or None
        for key in graph.inputs
    ]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            _Positional(graph).eval(),
            (graph.positional_inputs,),
            dynamo=True,
            optimize=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.output_names),
            dynamic_shapes=(shapes,) if graph.dynamic else None,
            verbose=False,
        )
    assert program is not None
    return program.model


def _point_to_weights(model: ir.Model, graph: Graph, out_dir: Path) -> None:
    if not graph.key_of:
        return
    header, data_start = read_header(out_dir / graph.weights_file)
    for name, value in list(model.graph.initializers.items()):
        key = graph.key_of.get(name.removeprefix("module."))
        if key is None:
            continue
        if key not in header:
            raise ValueError(f"{out_dir / graph.weights_file}: no tensor {key}")
        entry = header[key]
        assert value.shape is not None
        if list(value.shape) != entry["shape"]:
            raise ValueError(
                f"{out_dir / graph.weights_file}: {key} is {entry['shape']}, "
                f"graph {graph.name} wants {list(value.shape)}"
            )
        if value.dtype != TYPES[entry["dtype"]]:
            raise ValueError(
                f"{out_dir / graph.weights_file}: {key} is {entry['dtype']}, "
                f"graph {graph.name} computes in {value.dtype}"
            )
        begin, end = entry["data_offsets"]
        value.name = key
        value.const_value = ir.ExternalTensor(
            graph.weights_file,
            data_start + begin,
            end - begin,
            TYPES[entry["dtype"]],
            shape=ir.Shape(entry["shape"]),
            name=key,
            base_dir=out_dir,
        )


def read_header(path: Path) -> tuple[dict, int]:
    """A safetensors file's entries (dtype, shape, data_offsets) and where its data begins."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length


def _optimise(model: ir.Model) -> None:
    """Fold shapes and constants, but nothing that would copy a weight into the graph."""

    def should_fold(node: ir.Node) -> bool | None:
        external = any(
            value is not None and isinstance(value.const_value, ir.ExternalTensor)
            for value in node.inputs
        )
        return False if external else None

    onnxscript.optimizer.optimize_ir(model, should_fold=should_fold)


def _name_axes(model: ir.Model, graph: Graph) -> None:
    values: Sequence[ir.Value] = model.graph.outputs
    for value in values:
        assert value.name is not None
        for axis, name in graph.output_axes.get(value.name, {}).items():
            assert value.shape is not None
            value.shape[axis] = name


def _strip(model: ir.Model) -> None:
    """Drop stack traces and whatever else names the machine that exported."""
    model.metadata_props.clear()
    model.producer_name, model.producer_version, model.doc_string = PRODUCER, None, None
    model.graph.metadata_props.clear()
    model.graph.name = "graph"
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
