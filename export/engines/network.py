"""A graph as TensorRT understands it, and what it must not have lost on the way.

A graph that parses and builds may still not do what it says: an attention that was taken apart, by
the exporter or by the parser, needs memory for its scores (49 million per head at the released
sizes), a cache that is not updated in place is copied, an input that no layer reads does nothing.
All of these are errors here. TensorRT itself refuses to build an attention that it parsed in one
piece but has no fused kernel for.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx.helper

from export.engines.profiles import Ranges, hull, sizes_of
from pipeline.engines.manifest import TensorSpec
from pipeline.identity.file_hashes import HASHES, read_hashes, sha256_of, short

FUSED = {"Attention": "ATTENTION_OUTPUT", "TensorScatter": "KV_CACHE_UPDATE"}
"""ONNX operator -> the layer of TensorRT that does it in one piece."""
WIDEST_FUSED = 256
"""No kernel holds a wider head: the released VAE's single one has 384 numbers."""
WRITTEN_OUT = "Softmax"
"""ONNX operator that no graph of ours has but as a part of an attention."""
IGNORED_INPUT = "Unused Input"
"""How TensorRT's warning about an input that no layer reads begins."""


def parse(trt: Any, log: Any, path: Path) -> tuple[Any, Any, Any]:
    """Builder, network and parser of an ONNX file; ValueError names every node that was refused."""
    builder = trt.Builder(log)
    network = builder.create_network(_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        words = [f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors]
        raise ValueError(f"{path.name} is refused: {'; '.join(words)}")
    _let_wide_heads_come_apart(trt, network)
    return builder, network, parser


def _let_wide_heads_come_apart(trt: Any, network: Any) -> None:
    """TensorRT refuses an attention without a fused kernel, unless it may take it apart."""
    for layer in map(network.get_layer, range(network.num_layers)):
        is_attention = layer.type == trt.LayerType.ATTENTION_OUTPUT
        if is_attention and layer.get_output(0).shape[-1] > WIDEST_FUSED:
            layer.__class__ = trt.IAttentionOutputLayer  # the bindings give every layer as ILayer
            layer.attention.decomposable = True


def _flags(trt: Any) -> int:
    """Strong typing, which from TensorRT 11 on is all there is and needs no flag."""
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if strong is None else 1 << int(strong)


def read_model(path: Path) -> onnx.ModelProto:
    """The graph without its weights."""
    return onnx.load(path, load_external_data=False)


def check_fused(network: Any, model: onnx.ModelProto, name: str) -> None:
    """ValueError if an attention or a cache update was taken apart before or while parsing."""
    nodes = Counter(node.op_type for node in model.graph.node)
    if nodes[WRITTEN_OUT]:
        raise ValueError(
            f"{name}: {nodes[WRITTEN_OUT]} {WRITTEN_OUT} nodes: an attention was exported in parts "
            "instead of as the operator Attention"
        )
    layers = Counter(network.get_layer(i).type.name for i in range(network.num_layers))
    for operator, layer in FUSED.items():
        if layers[layer] != nodes[operator]:
            raise ValueError(
                f"{name}: {nodes[operator]} {operator} nodes became {layers[layer]} {layer} "
                "layers: some were taken apart"
            )


def check_log(warnings: list[str], name: str) -> None:
    """ValueError if TensorRT said that it leaves something out."""
    if ignored := [text for text in warnings if IGNORED_INPUT in text]:
        raise ValueError(f"{name}: {'; '.join(ignored)}")


def shapes_of(values: Iterable[onnx.ValueInfoProto]) -> dict[str, list[int | str]]:
    """Name of an input or output -> sizes, or names of axes that are open."""
    return {value.name: _shape(value) for value in values}


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    sizes = value.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") else d.dim_param for d in sizes]


def type_of(value: onnx.ValueInfoProto) -> str:
    """The element type, as NumPy calls it."""
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name


def specs(
    values: Iterable[onnx.ValueInfoProto], profiles: Sequence[Ranges]
) -> dict[str, TensorSpec]:
    """Inputs or outputs as a manifest names them, open axes at their smallest and largest."""
    made, ranges = {}, hull(profiles)
    for value in values:
        low, high = (sizes_of(_shape(value), ranges, end) for end in (0, 2))
        made[value.name] = TensorSpec(dtype=type_of(value), smallest=low, largest=high)
    return made


def precision(model: onnx.ModelProto) -> str:
    """What most of the weights' bytes are stored in: `fp8`, `bf16`, `fp16` or `fp32`."""
    names = {
        onnx.TensorProto.FLOAT8E4M3FN: "fp8",
        onnx.TensorProto.BFLOAT16: "bf16",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.INT8: "int8",
        onnx.TensorProto.FLOAT4E2M1: "nvfp4",
    }
    counts: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        if tensor.data_type in names:
            counts[names[tensor.data_type]] += weight_bytes(tensor)
    return counts.most_common(1)[0][0] if counts else "none"


def weight_bytes(tensor: onnx.TensorProto) -> int:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return int(entries["length"]) if "length" in entries else len(tensor.raw_data)


def sources(path: Path, model: onnx.ModelProto) -> dict[str, str]:
    """File -> sha256 of the graph and of every file that its weights lie in.

    ValueError if hashes.json beside it, where there is one, lists another: an export that rotted,
    or parts of two.
    """
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    files = {path.name, *(entry.value for entry in entries if entry.key == "location")}
    found = {name: sha256_of(path.parent / name) for name in sorted(files)}
    listed = read_hashes(path.parent) if (path.parent / HASHES).is_file() else {}
    wrong = [
        f"{name} (sha256 {short(found[name])}, wanted {short(listed[name])})"
        for name in found
        if listed.get(name, found[name]) != found[name]
    ]
    if wrong:
        raise ValueError(f"{path}: not the files of this export: {', '.join(wrong)}; export anew")
    return found
