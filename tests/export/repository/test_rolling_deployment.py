"""The GPU deployment of text-to-video streams: one GPU, memory that adds up, plans in place."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.engines.network import (
    element_types,
    input_shapes,
    output_shapes,
    read_model,
    sources,
    specs,
)
from export.engines.profiles import ranges_of
from export.repository.assemble import assemble
from export.repository.deployment import plan
from export.repository.memory import PROCESS_BYTES, engine_size
from export.repository.rolling import ENGINES, memory_row
from pipeline.config.rolling import RollingConfig
from pipeline.engines.manifest import Machine, Manifest, manifest_path

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "artifacts" / "rolling-demo"
CONFIG = RollingConfig.load(DEMO / "rolling.json")
MACHINE = Machine(gpu="NVIDIA L4", compute_capability="8.9", tensorrt="11.4.0")
GRAPHS = [name for names in ENGINES.values() for name in names]


def describe(name: str) -> Manifest:
    """The manifest of a graph, had it been built with a gigabyte of weights."""
    model = read_model(DEMO / f"{name}.onnx")
    types, ranges = element_types(model), ranges_of(name, CONFIG)
    return Manifest(
        graph=name,
        machine=MACHINE,
        gpu_memory_bytes=24_000_000_000,
        opset=24,
        precision="bf16",
        sources=sources(DEMO / f"{name}.onnx", model),
        weights_bytes=1_000_000_000,
        scratch_bytes=100_000_000,
        plan_bytes=900_000_000,
        builder_flags=(),
        build_seconds=1.0,
        inputs=specs(input_shapes(model), types, ranges),
        outputs=specs(output_shapes(model), types, ranges),
    )


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    for name in GRAPHS:
        (folder / f"{name}.plan").write_text(f"plan of {name}")
        describe(name).save(manifest_path(folder / f"{name}.plan"))
    return folder


def test_all_models_stand_on_one_gpu_with_their_plans(engines: Path, tmp_path: Path) -> None:
    """A model on another GPU would run, and its memory would be in no table."""
    deployment = plan(DEMO, engines, num_gpus=None, sessions=3)
    out = assemble(DEMO, tmp_path / "repository", deployment=deployment)
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"rolling_forcing", *ENGINES}
    for name in deployment.models():
        text = (out / name / "config.pbtxt").read_text()
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
        on_gpu = [0] if name in ENGINES else []
        assert list(config.instance_group[0].gpus) == on_gpu
        if name in ("dit_window", "rolling_vae_decoder"):
            assert config.parameters["engine"].string_value == "tensorrt"
        if name != "rolling_text_encoder":
            assert config.parameters["max_sessions"].string_value == "3"
    window = {path.name for path in (out / "dit_window" / "1").iterdir()}
    plans = {f"{g}.{end}" for g in ENGINES["dit_window"] for end in ("plan", "manifest.json")}
    assert window == {
        *plans,
        "model.py",
        "pipeline",
        "rolling.json",
        "hashes.json",
        "window_timesteps.safetensors",
    }
    text_encoder = {path.name for path in (out / "rolling_text_encoder" / "1").iterdir()}
    assert text_encoder == {"model.plan", "model.manifest.json"}
    assert list(out.rglob("*.onnx")) == list(out.rglob("cpu.pbtxt")) == []


def test_the_memory_is_the_sum_of_what_the_gpu_holds() -> None:
    """The table decides how many streams are let in."""
    sizes = {name: engine_size(describe(name)) for name in GRAPHS}
    row = memory_row(sizes, CONFIG, 24_000_000_000)
    c = CONFIG
    per_token = 2 * c.num_layers * c.num_heads * c.head_dim * 4  # K and V, float32 as exported
    assert row.caches == (c.cache_len + c.text_len) * per_token
    assert row.weights == len(GRAPHS) * 1_000_000_000
    assert row.scratch == 3 * 100_000_000  # one set for each process
    assert row.processes == 3 * PROCESS_BYTES
    states = [
        spec.num_bytes
        for name, spec in describe("vae_decoder").inputs.items()
        if name.startswith("state_")
    ]
    assert row.vae_state == 2 * sum(states) > 0
    latent = describe("dit_window").inputs["latent"].num_bytes
    assert row.bindings > c.window_blocks * 2 * latent  # it comes, and a velocity goes
    room = row.capacity - row.fixed
    assert row.sessions * row.per_session <= room < (row.sessions + 1) * row.per_session


def test_what_does_not_fit_is_refused_with_the_numbers(engines: Path) -> None:
    """The last stream would fail in the middle."""
    words = r"1 sessions do not fit: GPU 0 .*7.00 GB weights.* of 8.00. no session fits; a larger"
    with pytest.raises(ValueError, match=words):
        plan(DEMO, engines, num_gpus=1, sessions=1, gpu_memory_bytes=8_000_000_000)
    with pytest.raises(ValueError, match="0 sessions, wanted 1 or more"):
        plan(DEMO, engines, num_gpus=1, sessions=0)


def test_plans_of_another_export_are_refused_with_both_values(
    engines: Path, tmp_path: Path
) -> None:
    """Last week's weights would run with this week's table of timesteps, unseen."""
    shutil.copy(DEMO / "rolling.json", tmp_path)
    hashes = json.loads((DEMO / "hashes.json").read_text())
    changed = hashes | {"dit_clean.onnx": "ab" * 32}
    (tmp_path / "hashes.json").write_text(json.dumps(changed))
    ours = hashes["dit_clean.onnx"][:12]
    words = rf"dit_clean.plan is built from dit_clean.onnx of sha256 {ours}…, wanted abababababab…"
    with pytest.raises(ValueError, match=rf"plans of another export: {words}; build the engines"):
        plan(tmp_path, engines, num_gpus=1, sessions=1)


def test_more_gpus_than_one_are_refused(engines: Path) -> None:
    """GPUS=2 would leave one idle in silence."""
    with pytest.raises(ValueError, match="2 GPUs, wanted 1: a text-to-video stream runs on one"):
        plan(DEMO, engines, num_gpus=2, sessions=1)


def test_the_command_assembles_what_the_artifacts_are_of(engines: Path, tmp_path: Path) -> None:
    """`make repository BACKEND=gpu` is one command for both systems; nothing beside the standard
    library is there in the image's build."""
    command = [sys.executable, "-m", "export.repository.deployment", "--artifacts", DEMO]
    command += ["--engines", engines, "--out", tmp_path / "repository", "--sessions", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "plans for NVIDIA L4, sm 8.9, tensorrt 11.4.0; 2 sessions" in done.stdout
    assert "windows, VAE, text encoder" in done.stdout
    refused = subprocess.run([*command, "--gpus", "3"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "error: 3 GPUs, wanted 1" in refused.stderr


@pytest.mark.parametrize("preset", ["rolling-1.3b", "rolling-demo"])
def test_the_estimate_has_a_size_for_every_plan(preset: str) -> None:
    """`make gpu-plan` before anything is built; K/V of 1.3B are 7 GB per stream."""
    pytest.importorskip("torch")
    from export.checks.rolling_estimate import rolling_row
    from networks.rolling_presets import ROLLING_PRESETS

    chosen = ROLLING_PRESETS[preset]
    row, c = rolling_row(chosen, "bf16", 80_000_000_000), chosen.stream
    per_token = 2 * c.num_layers * c.num_heads * c.head_dim * 2
    assert row.caches == (c.cache_len + c.text_len) * per_token
    assert row.sessions * row.per_session + row.fixed <= row.capacity
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        rolling_row(chosen, "fp8", 80_000_000_000)


def test_weights_are_not_replaced_by_rounded_ones(tmp_path: Path) -> None:
    """`--out` equal to `--weights` would destroy what cannot be had back."""
    pytest.importorskip("torch")
    from export.graphs.rolling import export_rolling_preset
    from networks.rolling_presets import ROLLING_PRESETS

    shutil.copy(DEMO / "wan.safetensors", tmp_path)
    before = (tmp_path / "wan.safetensors").read_bytes()
    with pytest.raises(ValueError, match="wan is not in bf16; export elsewhere"):
        export_rolling_preset(
            ROLLING_PRESETS["rolling-demo"], tmp_path, tmp_path, dtype="bf16", components=["wan"]
        )
    assert [path.name for path in tmp_path.iterdir()] == ["wan.safetensors"]
    assert (tmp_path / "wan.safetensors").read_bytes() == before


TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64", "uint8": "TYPE_UINT8"}


@pytest.mark.parametrize("file", ["config.pbtxt", "configs/cpu.pbtxt"])
@pytest.mark.parametrize(
    ("model", "graph", "names"),
    [
        ("rolling_text_encoder", "text_encoder", {"token_ids", "token_mask", "text"}),
        ("rolling_vae_decoder", "vae_decoder", {"latent", "frames"}),
        ("dit_window", "dit_clean", {"latent"}),
        ("dit_window", "dit_text", {"text"}),
    ],
)
def test_models_declare_what_their_graphs_have(
    file: str, model: str, graph: str, names: set[str]
) -> None:
    """A tensor of another type or rank would be refused block by block, or by the backend."""
    text = (ROOT / "model_repository" / model / file).read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    declared = {tensor.name: tensor for tensor in (*config.input, *config.output)}
    read = read_model(DEMO / f"{graph}.onnx")
    shapes, types = {**output_shapes(read), **input_shapes(read)}, element_types(read)
    if model == "rolling_text_encoder":
        assert set(declared) == set(shapes) == names
    for name in names:
        kind = model_config_pb2.DataType.Name(declared[name].data_type)
        assert kind == TYPES[types[name]]
        pairs = zip(declared[name].dims, shapes[name], strict=True)
        assert all(want in (-1, size) for want, size in pairs)
