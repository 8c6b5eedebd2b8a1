"""What TensorRT-RTX builds of a linear layer in 8 and 4 bits: the table of docs/deploy.md."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.engines.packages import is_installed
from export.engines.profiles import load_config

pytestmark = pytest.mark.skipif(
    not is_installed(), reason="no TensorRT-RTX; python -m export.engines.packages"
)
CONFIG = load_config(Path(__file__).parents[3] / "artifacts" / "demo")
ROWS, WIDTH, BLOCK = 64, 128, 16
HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
INT8, FP8, FP4 = TensorProto.INT8, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1


def constant(name: str, dtype: int, shape: list[int]) -> onnx.TensorProto:
    """A tensor whose numbers do not matter; scales must be positive."""
    bits = 4 if dtype == FP4 else 8 * helper.tensor_dtype_to_np_dtype(dtype).itemsize
    if dtype in (HALF, SINGLE):
        raw = np.full(shape, 0.5, np.float16 if dtype == HALF else np.float32).tobytes()
    else:
        raw = bytes([0x22]) * (int(np.prod(shape)) * bits // 8)
    return helper.make_tensor(name, dtype, shape, raw, raw=True)


def narrow_input(dtype: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """x through `dtype` with one fixed scale, to `a`."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_narrow"]),
        helper.make_node("DequantizeLinear", ["x_narrow", "x_scale", "x_zero"], ["a"]),
    ]
    return nodes, [
        constant("x_scale", HALF, []),
        helper.make_tensor("x_zero", dtype, [], b"\0", raw=True),
    ]


def narrow_weight(dtype: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A weight with one scale for each of its columns, to `b`."""
    nodes = [helper.make_node("DequantizeLinear", ["w", "w_scale"], ["b"], axis=1)]
    return nodes, [constant("w", dtype, [WIDTH, WIDTH]), constant("w_scale", HALF, [WIDTH])]


def nvfp4_weight() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Blocks of 16 with e4m3 scales, which have one scale themselves, to `b`."""
    nodes = [
        helper.make_node("DequantizeLinear", ["scales", "scale_of_scales"], ["w_scale"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale"], ["b"], axis=0, block_size=BLOCK),
    ]
    return nodes, [
        constant("w", FP4, [WIDTH, WIDTH]),
        constant("scales", FP8, [WIDTH // BLOCK, WIDTH]),
        constant("scale_of_scales", HALF, []),
    ]


LAYERS = {
    "int8, input and weight": (narrow_input(INT8), narrow_weight(INT8), (8, 9)),
    "int8 weight alone": (None, narrow_weight(INT8), (8, 9)),
    "fp8, input and weight": (narrow_input(FP8), narrow_weight(FP8), (8, 9)),
    "fp8 weight alone": (None, narrow_weight(FP8), (8, 9)),
    "nvfp4 weight": (None, nvfp4_weight(), (12, 0)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_linear_layer_builds(name: str, tmp_path: Path) -> None:
    """The table would say what some version before this one did."""
    from export.engines.build import EngineBuilder, Target

    x, weight, capability = LAYERS[name]
    nodes, constants = [list(part) for part in weight]
    if x is not None:
        nodes, constants = [*x[0], *nodes], [*x[1], *constants]
    nodes.append(helper.make_node("MatMul", ["x" if x is None else "a", "b"], ["y"]))
    ends = (helper.make_tensor_value_info(n, HALF, [ROWS, WIDTH]) for n in "xy")
    graph = helper.make_graph(nodes, "g", [next(ends)], [next(ends)], constants)
    opset = helper.make_opsetid("", 24)
    path = tmp_path / "layer.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=11), path)
    builder = EngineBuilder(Target(rtx=True, compute_capabilities=(capability,)))
    assert builder.build(path, tmp_path / "layer.plan", CONFIG).plan_bytes > 0
