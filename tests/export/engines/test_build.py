"""The engine builder: what it refuses, what it writes down, and one real build without a GPU."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from export.engines import build
from export.engines.build import Target, capability
from export.engines.network import (
    check_fused,
    check_log,
    precision,
    read_model,
    shapes_of,
    sources,
)
from export.engines.packages import LOCK, PACKAGES, is_installed, load_tensorrt
from export.engines.profiles import axis_ranges, load_config, profile, ranges_of
from networks.presets import PRESETS
from pipeline.avatar.audio import FIELD, num_hidden_frames
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from pipeline.engines.gpu import Gpu
from pipeline.engines.manifest import Manifest, manifest_path
from pipeline.identity.file_hashes import read_hashes
from tests.support.fake_gpu import FakeCuda, FakeTensorRT
from tests.support.plans import element_types

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
ROLLING = DEMO.parent / "rolling-demo"
CONFIG = PipelineConfig.load(DEMO / "pipeline.json")
needs_rtx = pytest.mark.skipif(
    not is_installed(), reason=f"no TensorRT-RTX in {PACKAGES.parent.name}; make compile-check"
)


def network(*layers: str) -> types.SimpleNamespace:
    """A parsed network with layers of these types."""
    made = [types.SimpleNamespace(type=types.SimpleNamespace(name=name)) for name in layers]
    return types.SimpleNamespace(num_layers=len(made), get_layer=made.__getitem__)


def graph(*operators: str) -> onnx.ModelProto:
    nodes = [helper.make_node(name, ["x"], [f"y{i}"]) for i, name in enumerate(operators)]
    return helper.make_model(helper.make_graph(nodes, "g", [], []))


def small_graph(path: Path, dtype: int = TensorProto.FLOAT16) -> Path:
    """A matrix product with a dynamic number of rows, `dtype` throughout."""
    x = helper.make_tensor_value_info("samples", dtype, ["num_samples", 8])
    y = helper.make_tensor_value_info("y", dtype, ["num_samples", 8])
    weight = helper.make_tensor("w", dtype, [8, 8], bytes(8 * 8 * 2), raw=True)
    node = helper.make_node("MatMul", ["samples", "w"], ["y"])
    model = helper.make_model(
        helper.make_graph([node], "g", [x], [y], [weight]),
        opset_imports=[helper.make_opsetid("", 24)],
        ir_version=11,
    )
    onnx.save(model, path)
    return path


def test_an_attention_that_was_taken_apart_is_refused() -> None:
    """Its scores alone would need gigabytes at the released sizes."""
    check_fused(network("ATTENTION_OUTPUT", "CAST"), graph("Attention", "Cast"), "g")
    with pytest.raises(ValueError, match="2 Attention nodes became 1 ATTENTION_OUTPUT"):
        check_fused(network("ATTENTION_OUTPUT"), graph("Attention", "Attention"), "g")


def test_a_cache_that_would_be_copied_is_refused() -> None:
    """12 GB per block and step instead of 2.6."""
    with pytest.raises(ValueError, match="TensorScatter nodes became 0 KV_CACHE_UPDATE"):
        check_fused(network("SCATTER"), graph("TensorScatter"), "g")


def test_an_input_that_no_layer_reads_is_refused() -> None:
    """It parsed and built once already, and a GPU would have seen empty cache slots."""
    check_log(["Make sure input write_index has Int64 binding."], "g")
    with pytest.raises(ValueError, match="Unused Input: nonpad_kv_seqlen"):
        check_log(["Unused Input: nonpad_kv_seqlen"], "g")


def test_every_open_axis_of_every_graph_has_a_range() -> None:
    """A new axis would get a default that fits nothing."""
    for path in DEMO.glob("*.onnx"):
        shapes = shapes_of(read_model(path).graph.input)
        opened = {n for n, s in shapes.items() if any(isinstance(axis, str) for axis in s)}
        for ranges in ranges_of(path.stem, CONFIG):
            made = profile(shapes, ranges)
            assert set(made) == opened
            for low, usual, high in made.values():
                assert all(a <= b <= c for a, b, c in zip(low, usual, high, strict=True))
    with pytest.raises(ValueError, match="input x: no range for axis 'batch'"):
        profile({"x": ["batch", 2]}, axis_ranges(CONFIG))


def test_every_window_has_its_place_in_a_profile() -> None:
    """The graphs of text-to-video streams: one range for all windows, the full one preferred."""
    config = RollingConfig.load(ROLLING / "rolling.json")
    for path in ROLLING.glob("*.onnx"):
        assert load_config(path.parent) == config
        (ranges,) = ranges_of(path.stem, config)
        shapes = shapes_of(read_model(path).graph.input)
        opened = {n for n, s in shapes.items() if any(isinstance(axis, str) for axis in s)}
        assert set(profile(shapes, ranges)) == opened
    frames = config.frames_per_block
    (window,), (clean,), (again,) = (
        ranges_of(f"dit_{name}", config) for name in ("window", "clean", "recache")
    )
    assert window["frames"] == (frames, 5 * frames, 5 * frames)
    assert window["history"] == (0, 2, config.span_blocks - 1)  # a last block sees six
    assert clean["history"] == (0, 6, 6)
    assert again["frames"] == (2 * frames, 8 * frames, 8 * frames)
    assert again["stored_blocks"] == (2, 7, 8)
    assert again["history"] == (0, 1, 1)  # the sink, where its K/V stay


def test_the_audio_window_fits_its_range() -> None:
    """The last block of a long stream would be refused by the engine."""
    low, _, high = axis_ranges(CONFIG)["num_samples"]
    c = CONFIG
    frames = c.audio_context_frames + c.video_frames_per_block + c.audio_lookahead_frames
    assert low == FIELD
    assert num_hidden_frames(low) == 1
    assert high >= frames * c.samples_per_frame


@pytest.mark.parametrize("text", ["89", "8", "x.y", "8.9.0", ""])
def test_a_malformed_compute_capability_is_refused(text: str) -> None:
    """`89` would be read as an architecture that does not exist."""
    with pytest.raises(ValueError, match="wanted two numbers"):
        capability(text)


def test_a_compute_capability_goes_with_rtx() -> None:
    """TensorRT builds for the GPU that is there, whatever it is told."""
    assert Target(rtx=True, compute_capabilities=(capability("8.9"),)).rtx
    for wrong in ({"rtx": True}, {"compute_capabilities": ((8, 9),)}):
        with pytest.raises(ValueError, match="--rtx"):
            Target(**wrong)


def test_a_changed_weight_changes_the_sources(tmp_path: Path) -> None:
    """A plan of last week's weights would be taken for this week's."""
    path = small_graph(tmp_path / "a.onnx")
    before = sources(path, read_model(path))
    assert list(before) == ["a.onnx"]
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = b"\1" + model.graph.initializer[0].raw_data[1:]
    onnx.save(model, path)
    assert sources(path, read_model(path)) != before


def test_sources_are_what_the_export_listed(tmp_path: Path) -> None:
    """The repository compares them with hashes.json; weights lie outside the graph's file."""
    for name in ("vae_encoder.onnx", "vae.safetensors", "hashes.json"):
        (tmp_path / name).write_bytes((DEMO / name).read_bytes())
    path, listed = tmp_path / "vae_encoder.onnx", read_hashes(DEMO)
    model = read_model(path)
    assert sources(path, model) == {n: listed[n] for n in ("vae_encoder.onnx", "vae.safetensors")}
    offset = next(
        int(entry.value)
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "offset"
    )
    data = bytearray((tmp_path / "vae.safetensors").read_bytes())
    data[offset] ^= 1
    (tmp_path / "vae.safetensors").write_bytes(data)
    words = f"vae.safetensors .sha256 .*, wanted {listed['vae.safetensors'][:12]}….; export anew"
    with pytest.raises(ValueError, match=words):  # hours of building would be for nothing
        sources(path, model)
    (tmp_path / "hashes.json").unlink()
    assert sources(path, model)["vae.safetensors"] != listed["vae.safetensors"]


def test_the_precision_is_that_of_the_weights(tmp_path: Path) -> None:
    """The manifest would say something else than what is computed."""
    assert precision(read_model(DEMO / "dit_step.onnx")) == "fp32"
    assert precision(read_model(small_graph(tmp_path / "a.onnx"))) == "fp16"
    assert element_types(read_model(DEMO / "dit_step.onnx"))["write_index"] == "int64"


def test_without_tensorrt_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback of an import helps nobody."""
    for name in ("tensorrt", "tensorrt_bindings"):  # a build before may have left them to be found
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RuntimeError, match=r"TensorRT is not here: .*deploy/Dockerfile.*--rtx"):
        load_tensorrt(rtx=False)
    with pytest.raises(RuntimeError, match=r"python -m export.engines.packages"):
        load_tensorrt(rtx=True, folder=tmp_path)


def test_without_a_gpu_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that are made for a server would send its reader to configs/cpu.pbtxt."""

    def no_gpu(index: int) -> None:
        raise RuntimeError("GPU 0: cudaSetDevice failed: no CUDA-capable device (error 100)")

    monkeypatch.setattr(build, "load_tensorrt", lambda rtx: None)
    monkeypatch.setattr(build, "Gpu", no_gpu)
    with pytest.raises(
        RuntimeError, match=r"^no GPU can be used .*error 100\)\): plans are built on"
    ):
        build.EngineBuilder(Target())


def test_the_slice_has_full_width_and_few_layers(tmp_path: Path) -> None:
    """A narrower one would not show that the kernels exist at the released sizes."""
    pytest.importorskip("torch")
    from export.checks.compile import SLICE_LAYERS, write_slice
    from export.presets import slice_of

    made, full = slice_of(PRESETS["14b"], SLICE_LAYERS), PRESETS["14b"]
    assert (made.dit.dim, made.pipeline.cache_len) == (5120, 15312)
    assert made.pipeline.tokens_per_block == full.pipeline.tokens_per_block == 3168
    assert made.dit.num_layers == 2
    path = write_slice(made, tmp_path, "dit")
    assert path.stat().st_size > 2_000_000_000
    assert path.stat().st_blocks * 512 < 1_000_000  # a file of holes


def test_the_lock_names_both_interpreters() -> None:
    """Python 3.12 would find no TensorRT-RTX."""
    assert LOCK.read_text().count("--hash=sha256:") == 4 + 5


@needs_rtx
def test_a_graph_is_built_without_a_gpu(tmp_path: Path) -> None:
    """The builder, end to end: plan, manifest, dynamic axis."""
    from export.engines.build import EngineBuilder

    builder = EngineBuilder(Target(rtx=True, compute_capabilities=((8, 9),)))
    plan = tmp_path / "small.plan"
    made = builder.build(small_graph(tmp_path / "small.onnx"), plan, CONFIG)
    assert Manifest.load(manifest_path(plan)) == made
    assert made.plan_bytes == plan.stat().st_size > 0
    assert (made.machine.library, made.machine.compute_capability) == ("tensorrt_rtx", "8.9")
    assert made.inputs["samples"].smallest[0] == FIELD < made.inputs["samples"].largest[0]


def builder_on_gpu(graph: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorRT-RTX parses, Polygraphy locks its timing cache; GPU and plan are the stand-in's."""
    from export.engines.build import EngineBuilder

    builder, cuda = EngineBuilder(Target(rtx=True, compute_capabilities=((8, 9),))), FakeCuda()
    builder.target, builder.gpu = Target(stream_weights=True), Gpu(0, cuda, FakeTensorRT(cuda))
    from polygraphy import util
    from polygraphy.backend import trt as polygraphy_trt

    def built(_network: Any, *, config: Any, save_timing_cache: str) -> bytes:
        with util.LockFile(save_timing_cache):
            rows = [{"num_samples": [s[0] for s in p["samples"]]} for p in config.profiles]
            return json.dumps({"graph": str(graph), "profiles": rows}).encode()

    monkeypatch.setattr(polygraphy_trt, "engine_bytes_from_network", built)
    return builder


@needs_rtx
def test_a_gpu_build_needs_no_folder_and_loads_its_plan_as_it_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build of hours died at its end, and scratch memory was that of weights on the GPU."""
    graph = small_graph(tmp_path / "dit_text.onnx")
    builder, plan = builder_on_gpu(graph, monkeypatch), tmp_path / "new" / "demo" / "dit_text.plan"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read as a whole"))
        made = builder.build(graph, plan, CONFIG)
    assert made.streams_weights
    assert made.scratch_bytes == 5120
    assert made.gpu_memory_bytes == builder.gpu.memory()[1]
    builder.gpu.trt.refuses.add("deserialize")
    with pytest.raises(RuntimeError, match=r"dit_text.plan: TensorRT cannot load it"):
        builder.build(graph, plan, CONFIG)


@needs_rtx
def test_an_operator_that_tensorrt_lacks_is_named(tmp_path: Path) -> None:
    """`failed to build` is no help among a thousand nodes."""
    from export.engines.build import EngineBuilder

    model = onnx.load(small_graph(tmp_path / "small.onnx"))
    model.graph.node[0].op_type = "DoesNotExist"
    onnx.save(model, tmp_path / "bad.onnx")
    builder = EngineBuilder(Target(rtx=True, compute_capabilities=((8, 9),)))
    with pytest.raises(ValueError, match=r"bad.onnx is refused: .*DoesNotExist"):
        builder.build(tmp_path / "bad.onnx", tmp_path / "bad.plan", CONFIG)
    assert not (tmp_path / "bad.plan").exists()
