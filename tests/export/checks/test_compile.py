"""The gate of compilation: what must not pass it, and how it says so."""

import json
import platform
import shutil
from pathlib import Path

import onnx
import pytest
import typer
from onnx import TensorProto, helper

from export.checks import compile as engine_check
from export.checks.compile import CASES, SLICED, Case, build_graphs, run, with_side
from export.engines import packages as engine_packages
from export.presets import any_preset, config_of

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
needs_rtx = pytest.mark.skipif(
    not engine_packages.is_installed(), reason="no TensorRT-RTX; python -m export.engines.packages"
)


def write_graph(path: Path, nodes: list[onnx.NodeProto], dtype: int, head: int = 64) -> None:
    """q, k, v [1, N, L, d] to y of the same shape."""
    shape = [1, 2, 64, head]
    q, k, v, y = (helper.make_tensor_value_info(name, dtype, shape) for name in "qkvy")
    graph = helper.make_graph(nodes, "g", [q, k, v], [y])
    opset = helper.make_opsetid("", 24)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=11), path)


ATTENTION = [helper.make_node("Attention", list("qkv"), ["y"])]
WRITTEN_OUT = [
    helper.make_node("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2]),
    helper.make_node("MatMul", ["q", "t"], ["scores"]),
    helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
    helper.make_node("MatMul", ["weights", "v"], ["y"]),
]
UNKNOWN = [helper.make_node("Sdpa", list("qkv"), ["y"])]


@needs_rtx
def test_what_cannot_run_in_one_piece_does_not_pass(tmp_path: Path) -> None:
    """The gate exists for this: a graph like these would be found out on the GPU, or never."""
    shutil.copy(DEMO / "pipeline.json", tmp_path)
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    for name, nodes, dtype in (
        ("fused", ATTENTION, half),
        ("no_kernel", ATTENTION, single),
        ("written_out", WRITTEN_OUT, half),
        ("unknown", UNKNOWN, half),
    ):
        write_graph(tmp_path / f"{name}.onnx", nodes, dtype)
    results = build_graphs(["fused", "no_kernel", "written_out", "unknown"], tmp_path, (8, 9))
    assert [name for name, result in results.items() if result["ok"]] == ["fused"]
    assert results["fused"]["bytes"] > 0
    assert "no_kernel.onnx cannot be built" in results["no_kernel"]["error"]
    assert "1 Softmax nodes: an attention was exported in parts" in results["written_out"]["error"]
    assert "Sdpa" in results["unknown"]["error"]
    assert list(tmp_path.glob("*.plan")) == []


@needs_rtx
def test_a_head_too_wide_for_a_kernel_may_come_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The released VAE has one head of 384: nobody could build it."""
    shutil.copy(DEMO / "pipeline.json", tmp_path)
    write_graph(tmp_path / "wide.onnx", ATTENTION, TensorProto.BFLOAT16, head=384)
    assert build_graphs(["wide"], tmp_path, (8, 9))["wide"]["ok"]
    monkeypatch.setattr("export.engines.network.WIDEST_FUSED", 384)
    assert "wide.onnx cannot be built" in build_graphs(["wide"], tmp_path, (8, 9))["wide"]["error"]


@pytest.mark.parametrize("preset", SLICED)
def test_the_released_vae_is_built_at_its_full_width(preset: str) -> None:
    """The demo's VAE is narrower, and has another attention."""
    (case,) = (c for c in CASES if c.preset == preset and "vae" in c.components)
    made, full = with_side(any_preset(preset), case.side), any_preset(preset)
    assert made.vae == full.vae
    assert config_of(made).height == config_of(made).width == case.side


def test_a_graph_that_fails_fails_the_gate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever calls it reads the exit code, and a program the last line."""
    found = {"demo bf16 sm89": {"dit_step": {"ok": False, "error": "refused", "seconds": 1.0}}}
    monkeypatch.setattr(engine_check, "install", lambda: None)
    monkeypatch.setattr(engine_check, "run_all", lambda cases, workers: found)
    with pytest.raises(typer.Exit) as end:
        engine_check.main()
    assert end.value.exit_code == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == found


def test_a_graph_that_cannot_be_exported_fails_the_gate(tmp_path: Path) -> None:
    """Nothing to build would look like nothing wrong."""
    case = Case(preset="demo", precision="bf16", components=("nothing",))
    _, results = run(case, tmp_path / "case")
    assert results["export"]["ok"] is False
    assert "nothing" in results["export"]["error"]


def test_another_machine_is_told_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip would say that it finds no version of the package."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(RuntimeError, match=r"linux aarch64, .* for linux x86_64: .* cannot be"):
        engine_packages.install(tmp_path / "packages")


def test_the_cases_have_names_of_their_own() -> None:
    """Two of one name would be one line of the report."""
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {case.precision for case in CASES} == {"bf16", "fp16", "fp8"}
