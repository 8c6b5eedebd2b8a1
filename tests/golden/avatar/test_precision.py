"""The DiT in 16 and 8 bits: ONNX Runtime against the release in float32, and against PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnxruntime import OrtValue

from export.graphs.exporter import export_preset
from export.graphs.fp8 import SCALE, make_fp8
from networks.checkpoint import load_tensors
from networks.dit import DiT
from pipeline.engines.manifest import ON_DEVICE
from tests.golden.avatar.dit_plays import play_forwards
from tests.golden.avatar.dit_stream import DiTStream, TorchDriver, load_dit
from tests.golden.avatar.onnx_driver import OnnxDriver, open_graphs
from tests.golden.fixtures import needs_golden, preset, tensors, write_weights

pytestmark = needs_golden

LIMITS = {"fp16": 2.5e-3, "fp8": 0.15}
"""Largest error of a velocity as a share of the largest velocity: three times what was measured,
with ten bits of mantissa (8.6e-4) and with three (0.053) through four layers."""
FP8_NOISE = 0.1
"""The same between two programs in fp8: a sum that differs in its last bit is rounded to another
e4m3 number now and then, which moves it by 6%. A wrong scale moves everything by half or more."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_weights(folder)
    return folder


@pytest.fixture(scope="module")
def fp8(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DiT's graphs with 8-bit linear layers, float16 between them."""
    return export(weights, tmp_path_factory.mktemp("fp8"), "fp16", fp8=True)


def export(weights: Path, out: Path, dtype: str, fp8: bool) -> Path:
    dtype = f"fp8-{dtype}" if fp8 else dtype
    export_preset(preset(), weights, out, dtype=dtype, components=["dit"])
    return out


class Recording(DiTStream):
    """A stream that keeps the velocities it gave."""

    def __init__(self, driver: Any, dit: DiT) -> None:
        super().__init__(driver, dit)
        self.velocities: list[NDArray[np.float32]] = []

    def velocity(self, *args: Any, **kwargs: Any) -> NDArray[np.float32]:
        self.velocities.append(super().velocity(*args, **kwargs))
        return self.velocities[-1]


def graphs_in(folder: Path) -> Recording:
    """The graphs on caches of their own type, float16."""
    driver = OnnxDriver(open_graphs(folder), preset().pipeline)
    driver._caches = {
        name: OrtValue.ortvalue_from_numpy(array.astype(np.float16))
        for name, array in driver.caches().items()
    }
    return Recording(driver, load_dit())


def shares(stream: DiTStream) -> dict[str, float]:
    """Each call's error as a share of the release's largest velocity."""
    errors, data = play_forwards(stream), tensors("dit_forward")
    return {k: e / data[k].abs().max().item() for k, e in errors.items() if k.endswith("_out")}


def beyond(limit: float, found: dict[str, float]) -> dict[str, float]:
    return {name: share for name, share in found.items() if not share <= limit}


@pytest.mark.slow
def test_velocities_in_float16_stay_near_the_release_s(weights: Path, tmp_path: Path) -> None:
    """A sum would overflow, or the Euler step would be taken in 16 bits."""
    found = shares(graphs_in(export(weights, tmp_path, "fp16", fp8=False)))
    assert beyond(LIMITS["fp16"], found) == {}
    assert min(found.values()) > 1e-5  # the arithmetic is not float32's


def test_velocities_in_fp8_stay_near_the_release_s_and_pytorch_s(fp8: Path) -> None:
    """A scale would be lost, applied twice, or be another layer's."""
    graphs = graphs_in(fp8)
    assert beyond(LIMITS["fp8"], shares(graphs)) == {}
    dit = DiT(preset().dit)
    make_fp8(dit)
    dit.load_state_dict(load_tensors(fp8 / "dit.safetensors"), assign=True)
    for tensor in dit.state_dict(keep_vars=True).values():
        tensor.data = tensor.data.float() if tensor.itemsize == 2 else tensor.data
    eager = Recording(TorchDriver(dit.eval()), load_dit())
    assert beyond(LIMITS["fp8"], shares(eager)) == {}
    for got, wanted in zip(graphs.velocities, eager.velocities, strict=True):
        assert np.abs(got - wanted).max() <= FP8_NOISE * np.abs(wanted).max()


def test_an_fp8_graph_holds_a_scale_for_each_narrow_weight(fp8: Path) -> None:
    """The plan would be no smaller, or an engine could not fuse the products."""
    for name in ("dit_step", "dit_text"):
        model = onnx.load(fp8 / f"{name}.onnx", load_external_data=False)
        types = {t.name: t.data_type for t in model.graph.initializer}
        narrow = {n for n, kind in types.items() if kind == onnx.TensorProto.FLOAT8E4M3FN}
        readers = {i: node.op_type for node in model.graph.node for i in node.input}
        assert narrow
        assert {readers[name] for name in narrow} == {"DequantizeLinear"}
        assert {name + SCALE for name in narrow} <= set(types)


@pytest.mark.slow
def test_a_bfloat16_graph_is_valid_and_keeps_the_wire_in_float32(
    weights: Path, tmp_path: Path
) -> None:
    """ONNX Runtime has no bfloat16 arithmetic on a CPU: what can be checked is the graph."""
    folder = export(weights, tmp_path, "bf16", fp8=False)
    for path in folder.glob("*.onnx"):
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path, load_external_data=False)
        for value in (*model.graph.input, *model.graph.output):
            on_device = value.name.startswith(ON_DEVICE)
            kind = value.type.tensor_type.elem_type
            if kind != onnx.TensorProto.INT64:
                wanted = onnx.TensorProto.BFLOAT16 if on_device else onnx.TensorProto.FLOAT
                assert kind == wanted, value.name
