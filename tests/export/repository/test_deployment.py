"""The GPU deployment: every step placed once, memory that adds up, configurations that load."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import onnx
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
from export.engines.profiles import axis_ranges
from export.repository.assemble import assemble
from export.repository.avatar import STATELESS, load_manifests, plan_deployment
from export.repository.memory import (
    PROCESS_BYTES,
    STAGE_ENGINES,
    VAE_ENGINES,
    check_fits,
    engine_size,
    memory_table,
)
from export.repository.placement import Placement, place
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.manifest import Machine, Manifest, manifest_path
from tests.support.programs import needs_program

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "artifacts" / "demo"
CONFIG = PipelineConfig.load(DEMO / "pipeline.json")
MACHINE = Machine(gpu="NVIDIA H100", compute_capability="9.0", tensorrt="11.4.0")
TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64", "uint8": "TYPE_UINT8"}


def describe(name: str, weights_bytes: int = 2_000_000_000) -> Manifest:
    """The manifest of a demo graph, had it been built with so many bytes of weights."""
    model = read_model(DEMO / f"{name}.onnx")
    types, ranges = element_types(model), axis_ranges(CONFIG)
    return Manifest(
        graph=name,
        machine=MACHINE,
        gpu_memory_bytes=24_000_000_000,
        opset=24,
        precision="bf16",
        sources=sources(DEMO / f"{name}.onnx", model),
        weights_bytes=weights_bytes,
        scratch_bytes=100_000_000,
        plan_bytes=weights_bytes + 1_000_000,
        builder_flags=(),
        build_seconds=1.0,
        inputs=specs(input_shapes(model), types, ranges),
        outputs=specs(output_shapes(model), types, ranges),
    )


@pytest.fixture(scope="module")
def manifests() -> dict[str, Manifest]:
    return {name: describe(name) for name in (*STAGE_ENGINES, *VAE_ENGINES)}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, manifests: dict[str, Manifest]) -> Path:
    """Plans that are words, with the manifests of the demo's graphs."""
    folder = tmp_path_factory.mktemp("engines")
    for name, manifest in manifests.items():
        (folder / f"{name}.plan").write_text(f"plan of {name}")
        manifest.save(manifest_path(folder / f"{name}.plan"))
    return folder


def configurations(repository: Path) -> dict[str, model_config_pb2.ModelConfig]:
    return {
        path.parent.name: text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        for path in repository.glob("*/config.pbtxt")
    }


@pytest.fixture(scope="module", params=[1, 2, 3, 4, 5])
def repository(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, engines: Path
) -> tuple[Placement, Path]:
    deployment = plan_deployment(DEMO, engines, num_gpus=request.param, sessions=3)
    out = tmp_path_factory.mktemp("gpu") / "repository"
    assemble(DEMO, out, deployment=deployment)
    return deployment.placement, out


@pytest.mark.parametrize("num_steps", [1, 3, 4, 8])
def test_every_step_is_placed_once_and_no_gpu_is_idle(num_steps: int) -> None:
    """A step left out leaves its noise in; one placed twice denoises twice."""
    for num_gpus in range(1, num_steps + 2):
        placement = place(num_steps, num_gpus)
        assert [s for stage in placement.steps for s in stage] == list(range(num_steps))
        assert all(placement.steps)
        assert placement.num_gpus == num_gpus
        sizes = [len(stage) for stage in placement.steps]
        assert max(sizes) - min(sizes) <= 1


def test_more_gpus_are_never_slower() -> None:
    """A GPU would be paid for and hold the others up."""
    loads = [place(4, num_gpus).load for num_gpus in (1, 2, 3, 4, 5)]
    assert loads == sorted(loads, reverse=True)
    assert loads[-1] == 1  # nothing waits for anything else


@pytest.mark.parametrize("num_gpus", [0, 6])
def test_a_number_of_gpus_without_a_use_is_refused(num_gpus: int) -> None:
    """GPUS=8 would leave three idle in silence."""
    with pytest.raises(ValueError, match=rf"{num_gpus} GPUs for 4 steps, wanted 1..5"):
        place(4, num_gpus)


def test_a_placement_with_a_step_twice_is_refused() -> None:
    """The block would be denoised twice at one noise level."""
    with pytest.raises(ValueError, match="each once"):
        Placement(steps=((0, 1), (1, 2)), vae_gpu=2)


def test_the_assembled_configurations_agree_with_the_placement(
    repository: tuple[Placement, Path],
) -> None:
    """A stage on another's GPU, or with another's steps, runs and is wrong."""
    placement, out = repository
    found = configurations(out)
    stages = [f"dit_stage_{i}" for i in range(len(placement.steps))]
    others = {"live_avatar", "conditioning", "vae_decoder", *STATELESS}
    assert set(found) == {*stages, *others}
    steps = []
    for gpu, stage in enumerate(stages):
        assert list(found[stage].instance_group[0].gpus) == [gpu]
        assert found[stage].parameters["engine"].string_value == "tensorrt"
        steps += [int(s) for s in found[stage].parameters["steps"].string_value.split(",")]
    assert steps == list(range(CONFIG.num_steps))
    assert found["live_avatar"].parameters["stages"].string_value == ",".join(stages)
    for name in ("vae_decoder", *STATELESS):
        assert list(found[name].instance_group[0].gpus) == [placement.vae_gpu]
    for name in ("live_avatar", "vae_decoder", *stages):
        assert found[name].parameters["max_sessions"].string_value == "3"


def test_no_gpu_is_used_twice_unless_it_is_folded(repository: tuple[Placement, Path]) -> None:
    """Two holders of caches on one GPU fit only where the memory table says so."""
    placement, out = repository
    holders = [n for n in configurations(out) if n.startswith("dit_stage_") or n == "vae_decoder"]
    gpus = [configurations(out)[name].instance_group[0].gpus[0] for name in holders]
    is_shared = placement.vae_gpu < len(placement.steps)
    assert len(set(gpus)) == len(gpus) - is_shared
    assert set(gpus) == set(range(placement.num_gpus))


def test_every_model_has_its_plans_and_no_graph(repository: tuple[Placement, Path]) -> None:
    """A missing plan shows up on the GPU only; a graph beside it is dead weight of gigabytes."""
    _, out = repository
    for name in STATELESS:
        files = {path.name for path in (out / name / "1").iterdir()}
        assert files == {"model.plan", "model.manifest.json"}
        assert (out / name / "1" / "model.plan").read_text() == f"plan of {name}"
    stage = {path.name for path in (out / "dit_stage_0" / "1").iterdir()}
    assert stage == {
        *("model.py", "pipeline", "pipeline.json", "hashes.json", "timesteps.safetensors"),
        *("dit_step.plan", "dit_step.manifest.json"),
        *("dit_prefill.plan", "dit_prefill.manifest.json"),
        *("dit_text.plan", "dit_text.manifest.json"),
    }
    assert list(out.rglob("*.onnx")) == []
    assert list(out.rglob("cpu.pbtxt")) == []


def test_the_memory_of_a_gpu_is_the_sum_of_what_it_holds(manifests: dict[str, Manifest]) -> None:
    """The table decides how many sessions are let in."""
    sizes = {name: engine_size(manifest) for name, manifest in manifests.items()}
    c = CONFIG
    layers = 2 * c.num_layers * c.num_heads * c.head_dim * 4  # K and V in float32
    for num_gpus in range(1, 6):
        placement = place(c.num_steps, num_gpus)
        rows = memory_table(placement, sizes, 24_000_000_000)
        total = sum(row.caches for row in rows)
        assert total == c.num_steps * c.cache_len * layers + len(placement.steps) * (
            c.text_len * layers
        )
        assert sum(row.vae_state for row in rows) == sizes["vae_decoder"].state
        assert rows[placement.vae_gpu].vae_state > 0
        weights = 2_001_000_000
        assert rows[0].weights == weights * (3 if num_gpus > 1 else 9)
        for row in rows:
            assert row.fixed == row.weights + row.scratch + row.processes
            assert row.processes in (PROCESS_BYTES, 2 * PROCESS_BYTES, 3 * PROCESS_BYTES)
            room = row.capacity - row.fixed
            assert row.sessions * row.per_session <= room < (row.sessions + 1) * row.per_session


def test_the_cache_is_counted_as_the_graph_declares_it() -> None:
    """Bytes of `cache_*` inputs, from the shapes, once: outputs share their memory."""
    size = engine_size(describe("dit_step"))
    graph = read_model(DEMO / "dit_step.onnx").graph
    wanted = sum(
        4 * math.prod(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in graph.input
        if value.name.startswith("cache_")
    )
    assert size.state == wanted


def test_weights_that_stay_in_host_memory_are_not_counted() -> None:
    """At 14B in bfloat16 this decides whether a session fits on 80 GB at all."""
    manifest = dataclasses.replace(describe("dit_prefill"), streams_weights=True)
    assert engine_size(manifest).weights == 0
    assert engine_size(describe("dit_prefill")).weights == 2_001_000_000


def test_a_plan_that_does_not_fit_is_refused_with_the_numbers(engines: Path) -> None:
    """The last session would fail in the middle of a stream."""
    words = r"5000 sessions do not fit: GPU 0 .*6.00 GB weights.* of 24.00.*SESSIONS=\d+ fits"
    with pytest.raises(ValueError, match=words):
        plan_deployment(DEMO, engines, num_gpus=5, sessions=5000)
    with pytest.raises(ValueError, match=r"of 3.00.*no session fits; more GPUs, 8-bit"):
        plan_deployment(DEMO, engines, num_gpus=5, sessions=1, gpu_memory_bytes=3_000_000_000)


def test_missing_plans_are_named(engines: Path, tmp_path: Path) -> None:
    """`make repository BACKEND=gpu` comes before `make engines` more often than not."""
    with pytest.raises(ValueError, match=r"no plans of dit_step.*make engines"):
        load_manifests(tmp_path)


def test_plans_of_two_machines_are_refused(engines: Path, tmp_path: Path) -> None:
    """Half of the models would load."""
    folder = tmp_path / "engines"
    shutil.copytree(engines, folder)
    other = dataclasses.replace(MACHINE, tensorrt="11.5.0")
    dataclasses.replace(describe("vae_encoder"), machine=other).save(
        folder / "vae_encoder.manifest.json"
    )
    with pytest.raises(ValueError, match=r"vae_encoder.plan was built for .*11.5.0.*one machine"):
        load_manifests(folder)


def other_export(folder: Path, *changed: str) -> Path:
    """The demo's artifacts as far as plans need them, these files listed with another hash."""
    folder.mkdir()
    for name in ("pipeline.json", "timesteps.safetensors"):
        shutil.copy(DEMO / name, folder)
    hashes = json.loads((DEMO / "hashes.json").read_text())
    (folder / "hashes.json").write_text(json.dumps(hashes | dict.fromkeys(changed, "ab" * 32)))
    return folder


@pytest.mark.parametrize(
    ("file", "plans"),
    [
        ("dit.safetensors", ["audio_tokens", "dit_step", "dit_prefill", "dit_text"]),
        ("dit_step.onnx", ["dit_step"]),
        ("vae.safetensors", ["vae_encoder", "vae_decoder", "vae_decoder_warmup"]),
        ("text_encoder.safetensors", ["text_encoder"]),
        ("audio_encoder.onnx", ["audio_encoder"]),
    ],
)
def test_plans_of_another_export_are_refused_with_both_values(
    engines: Path, tmp_path: Path, file: str, plans: list[str]
) -> None:
    """Last week's weights would run with this week's timesteps and configuration, unseen."""
    artifacts = other_export(tmp_path / "artifacts", file)
    ours = json.loads((DEMO / "hashes.json").read_text())[file]
    with pytest.raises(ValueError, match="build the engines anew: make engines") as caught:
        plan_deployment(artifacts, engines, num_gpus=5, sessions=1)
    named = re.findall(rf"(\w+)\.plan is built from {file} of sha256 (\w+)…", str(caught.value))
    assert sorted(named) == sorted((plan, ours[:12]) for plan in plans)
    assert f"{artifacts}: plans of another export" in str(caught.value)
    assert "wanted abababababab…" in str(caught.value)


def test_artifacts_without_hashes_are_refused_with_the_way_to_get_them(
    engines: Path, tmp_path: Path
) -> None:
    """Nobody could say whether the plans are theirs."""
    (other_export(tmp_path / "artifacts") / "hashes.json").unlink()
    with pytest.raises(ValueError, match=r"missing in .*hashes\.json.*export\.repository\.hash_files"):
        plan_deployment(tmp_path / "artifacts", engines, num_gpus=5, sessions=1)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sources": None}, "lacks sources"),
        ({"sources": []}, "AttributeError|no object|has no attribute"),
        ({"sources": {"dit_step.onnx": 1}}, "no object of file names"),
        ({"inputs": []}, "has no attribute"),
    ],
)
def test_a_manifest_from_before_is_refused(
    engines: Path, tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    """It does not say what its plan was built from."""
    folder = tmp_path / "engines"
    shutil.copytree(engines, folder)
    path = folder / "dit_text.manifest.json"
    values = json.loads(path.read_text()) | changed | {"weights_sha256": "ab" * 32}
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    with pytest.raises(ValueError, match=rf"dit_text\.manifest.*({words}).*build the engines anew"):
        plan_deployment(DEMO, folder, num_gpus=5, sessions=1)


def test_a_table_without_rows_that_fall_short_passes(manifests: dict[str, Manifest]) -> None:
    """The check itself must let good plans through."""
    sizes = {name: engine_size(manifest) for name, manifest in manifests.items()}
    rows = memory_table(place(4, 5), sizes, 24_000_000_000)
    check_fits(rows, min(row.sessions for row in rows))
    with pytest.raises(ValueError, match="do not fit"):
        check_fits(rows, min(row.sessions for row in rows) + 1)


@pytest.mark.parametrize("name", STATELESS)
@pytest.mark.parametrize("file", ["config.pbtxt", "configs/cpu.pbtxt"])
def test_stateless_models_declare_what_their_graphs_have(name: str, file: str) -> None:
    """Triton's TensorRT backend compares names, types and sizes when it loads a plan."""
    text = (ROOT / "model_repository" / name / file).read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    model = read_model(DEMO / f"{name}.onnx")
    types = element_types(model)
    for declared, shapes in (
        (config.input, input_shapes(model)),
        (config.output, output_shapes(model)),
    ):
        assert {tensor.name for tensor in declared} == set(shapes)
        for tensor in declared:
            kind = model_config_pb2.DataType.Name(tensor.data_type)
            assert kind == TYPES[types[tensor.name]]
            for want, size in zip(tensor.dims, shapes[tensor.name], strict=True):
                assert want == -1 or want == size


def test_the_stages_of_the_decoder_and_the_dit_declare_their_blocks() -> None:
    """Latents and frames on the wire are those of the graphs behind the models."""
    for model, graph, pairs in (
        ("dit_stage_0", "dit_step", {n: n for n in ("latent", "audio_local", "audio_global")}),
        ("dit_stage_0", "dit_prefill", {"reference": "reference", "motion": "motion"}),
        ("dit_stage_0", "dit_text", {"text": "text"}),
        ("vae_decoder", "vae_decoder", {"latent": "latent", "frames": "frames"}),
    ):
        text = (ROOT / "model_repository" / model / "config.pbtxt").read_text()
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
        declared = {tensor.name: tensor for tensor in (*config.output, *config.input)}
        values = read_model(DEMO / f"{graph}.onnx").graph
        shapes = {v.name: v for v in (*values.input, *values.output)}
        for name, tensor in pairs.items():
            kind = shapes[tensor].type.tensor_type
            wanted = {onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.UINT8: "TYPE_UINT8"}
            assert (
                model_config_pb2.DataType.Name(declared[name].data_type) == wanted[kind.elem_type]
            )
            assert len(declared[name].dims) == len(kind.shape.dim)


@pytest.mark.parametrize("num_gpus", [1, 2, 3, 4])
def test_fewer_steps_need_fewer_stages(engines: Path, tmp_path: Path, num_gpus: int) -> None:
    """The last of four steps changes little: num_steps of pipeline.json may be three."""
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    dataclasses.replace(CONFIG, num_steps=3).save(artifacts / "pipeline.json")
    shutil.copy(DEMO / "timesteps.safetensors", artifacts)
    shutil.copy(DEMO / "hashes.json", artifacts)
    deployment = plan_deployment(artifacts, engines, num_gpus=num_gpus, sessions=1)
    found = configurations(assemble(artifacts, tmp_path / "repository", deployment=deployment))
    stages = found["live_avatar"].parameters["stages"].string_value.split(",")
    owned = [found[stage].parameters["steps"].string_value for stage in stages]
    assert ",".join(owned) == "0,1,2"
    gpus = [found[stage].instance_group[0].gpus[0] for stage in stages]
    assert len({*gpus, found["vae_decoder"].instance_group[0].gpus[0]}) == num_gpus
    with pytest.raises(ValueError, match=r"5 GPUs for 3 steps, wanted 1\.\.4"):
        plan_deployment(artifacts, engines, num_gpus=5, sessions=1)


@needs_program("make")
def test_steps_of_cpu_stages_are_refused_for_plans() -> None:
    command = ["make", "-n", "repository", "BACKEND=gpu", "STEPS=0,1 2,3"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "fold plans with GPUS=5|4|3|2|1" in refused.stderr
