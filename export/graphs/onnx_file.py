"""One graph to one `.onnx` file whose weights stay where they are, in safetensors files."""

import contextlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as passes
import onnxscript.optimizer
import torch
from onnx_ir.tensor_adapters import from_torch_dtype
from onnxscript import rewriter
from onnxscript.rewriter.rules.common import slice_split_rule
from torch import Tensor, nn
from torch._guards import detect_fake_mode

from export.checkpoint.files import open_weights
from export.graphs.graph import Graph
from networks.layers import OPSET

PRODUCER = "live-avatar-server"
RULES = [rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule is not slice_split_rule]
"""onnxscript's own but for the one that compares all pairs of nodes: it finds nothing here and
takes a third of the time at forty layers."""
TIDY = (
    passes.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call, unused-ignore]
    passes.RemoveUnusedOpsetsPass(),
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    passes.LiftSubgraphInitializersToMainGraphPass(),
    passes.DeduplicateInitializersPass(),
    passes.CommonSubexpressionEliminationPass(),
    passes.OutputFixPass(),
    passes.NameFixPass(),
)


class _Positional(nn.Module):
    """Calls the graph's module with its keyword tensors; the exporter flattens one list."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.module = graph.module
        self._names = list(graph.inputs)

    def forward(self, tensors: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        outputs: Tensor | tuple[Tensor, ...]
        outputs = self.module(**dict(zip(self._names, tensors, strict=True)))
        return outputs


def export_graph(graph: Graph, out_dir: Path, weights_dir: Path | None = None) -> Path:
    """Write `out_dir/<graph.name>.onnx` (opset 24) and return its path.

    `graph.weights_file` (or its shards with their index) lies in `weights_dir`, None: in `out_dir`,
    and is to lie beside the graph. Initializers named in `graph.key_of` become references into it
    and bear its keys as names; nothing but headers is read. Equal graphs give equal bytes, whatever
    the numbers in the file, and a module of fake tensors the same as one of real ones. ValueError
    if a tensor in the file is missing or has another shape or type than the module's.
    """
    model = _trace(graph)
    _point_to_weights(model, graph, weights_dir or out_dir)
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
    fake_mode = detect_fake_mode(graph.positional_inputs) or contextlib.nullcontext()
    with warnings.catch_warnings(), torch.no_grad(), fake_mode:
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


def _point_to_weights(model: ir.Model, graph: Graph, weights_dir: Path) -> None:
    if not graph.key_of:
        return
    where = weights_dir / graph.weights_file
    infos = open_weights(weights_dir, graph.weights_file.removesuffix(".safetensors")).infos
    for name, value in list(model.graph.initializers.items()):
        key = graph.key_of.get(name.removeprefix("module."))
        if key is None:
            continue
        if key not in infos:
            raise ValueError(f"{where}: no tensor {key}")
        info = infos[key]
        assert value.shape is not None
        if list(value.shape) != list(info.shape):
            raise ValueError(
                f"{where}: {key} is {list(info.shape)}, "
                f"graph {graph.name} wants {list(value.shape)}"
            )
        if value.dtype != from_torch_dtype(info.dtype):
            raise ValueError(
                f"{where}: {key} is {info.dtype}, graph {graph.name} computes in {value.dtype}"
            )
        value.name = key
        value.const_value = ir.ExternalTensor(
            info.path.name,
            info.offset,
            info.num_bytes,
            from_torch_dtype(info.dtype),
            shape=ir.Shape(info.shape),
            name=key,
        )


def _optimise(model: ir.Model) -> None:
    """Fold shapes and constants without a look at weights: no graph depends on their numbers."""
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # warns of each weight not looked at
    values = model.graph.initializers.values()
    weights = {v: v.const_value for v in values if isinstance(v.const_value, ir.ExternalTensor)}
    for value in weights:
        value.const_value = None
    passes.InlinePass()(model)
    for _ in range(2):  # what is rewritten may be folded
        onnxscript.optimizer.fold_constants_ir(model, onnx_shape_inference=True)
        rewriter.RewritePass(RULES)(model)
        passes.RemoveUnusedNodesPass()(model)
    for tidy in TIDY:
        tidy(model)
    for value, weight in weights.items():
        value.const_value = weight


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
