"""The avatar's GPU deployment: plans that belong to the artifacts, configurations that load."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from export.repository.assemble import assemble
from export.repository.catalogue import AVATAR
from export.repository.deployment import load_manifests, plan
from export.repository.placement import Placement
from pipeline.config.avatar import PipelineConfig
from tests.support.plans import DEMO, MACHINE, ROOT, configurations, describe, write_plans
from tests.support.programs import needs_program

CONFIG = PipelineConfig.load(DEMO / "pipeline.json")
ENCODERS = [model.name for model in AVATAR.encoders]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plans(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="module", params=[1, 2, 3, 4, 5])
def repository(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, engines: Path
) -> tuple[Placement, Path]:
    deployment = plan(DEMO, engines, num_gpus=request.param, sessions=3)
    out = tmp_path_factory.mktemp("gpu") / "repository"
    assemble(DEMO, out, deployment=deployment)
    return deployment.placement, out


def test_the_assembled_configurations_agree_with_the_placement(
    repository: tuple[Placement, Path],
) -> None:
    """A stage on another's GPU, or with another's steps, runs and is wrong."""
    placement, out = repository
    found = configurations(out)
    stages = [f"dit_stage_{i}" for i in range(len(placement.steps))]
    others = {"live_avatar", "conditioning", "vae_decoder", *ENCODERS}
    assert set(found) == {*stages, *others}
    steps = []
    for gpu, stage in enumerate(stages):
        assert list(found[stage].instance_group[0].gpus) == [gpu]
        assert found[stage].parameters["engine"].string_value == "tensorrt"
        steps += [int(s) for s in found[stage].parameters["steps"].string_value.split(",")]
    assert steps == list(range(CONFIG.num_steps))
    assert found["live_avatar"].parameters["stages"].string_value == ",".join(stages)
    for name in ("vae_decoder", *ENCODERS):
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
    for name in ENCODERS:
        files = {path.name for path in (out / name / "1").iterdir()}
        assert files == {"model.plan", "model.manifest.json"}
        assert (out / name / "1" / "model.plan").read_text() == f"plan of {name}"
    stage = {path.name for path in (out / "dit_stage_0" / "1").iterdir()}
    assert stage == {
        *("model.py", "pipeline", "pipeline.json", "hashes.json", "timesteps.safetensors"),
        *("dit_step.plan", "dit_step.manifest.json"),
        *("dit_embed.plan", "dit_embed.manifest.json"),
        *("dit_sink.plan", "dit_sink.manifest.json"),
        *("dit_text.plan", "dit_text.manifest.json"),
    }
    assert list(out.rglob("*.onnx")) == []
    assert list(out.rglob("cpu.pbtxt")) == []


def test_a_plan_that_does_not_fit_is_refused_with_the_numbers(engines: Path) -> None:
    """The last session would fail in the middle of a stream."""
    words = r"5000 sessions do not fit: GPU 0 .*8.00 GB weights.* of 24.00.*SESSIONS=\d+ fits"
    with pytest.raises(ValueError, match=words):
        plan(DEMO, engines, num_gpus=5, sessions=5000)
    with pytest.raises(ValueError, match=r"of 3.00.*no session fits; more GPUs, 8-bit"):
        plan(DEMO, engines, num_gpus=5, sessions=1, gpu_memory_bytes=3_000_000_000)


def test_missing_plans_are_named(engines: Path, tmp_path: Path) -> None:
    """`make repository BACKEND=gpu` comes before `make engines` more often than not."""
    with pytest.raises(ValueError, match=r"no plans of dit_step.*make engines"):
        load_manifests(tmp_path, AVATAR)


def test_plans_of_two_machines_are_refused(engines: Path, tmp_path: Path) -> None:
    """Half of the models would load."""
    folder = tmp_path / "engines"
    shutil.copytree(engines, folder)
    other = dataclasses.replace(MACHINE, tensorrt="11.5.0")
    dataclasses.replace(describe("vae_encoder"), machine=other).save(
        folder / "vae_encoder.manifest.json"
    )
    with pytest.raises(ValueError, match=r"vae_encoder.plan was built for .*11.5.0.*one machine"):
        load_manifests(folder, AVATAR)


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
        ("dit.safetensors", ["audio_tokens", "dit_embed", "dit_sink", "dit_step", "dit_text"]),
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
        plan(artifacts, engines, num_gpus=5, sessions=1)
    named = re.findall(rf"(\w+)\.plan is built from {file} of sha256 (\w+)…", str(caught.value))
    assert sorted(named) == sorted((plan, ours[:12]) for plan in plans)
    assert f"{artifacts}: plans of another export" in str(caught.value)
    assert "wanted abababababab…" in str(caught.value)


def test_artifacts_without_hashes_are_refused_with_the_way_to_get_them(
    engines: Path, tmp_path: Path
) -> None:
    """Nobody could say whether the plans are theirs."""
    (other_export(tmp_path / "artifacts") / "hashes.json").unlink()
    with pytest.raises(
        ValueError, match=r"missing in .*hashes\.json.*export\.repository\.hash_files"
    ):
        plan(tmp_path / "artifacts", engines, num_gpus=5, sessions=1)


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
        plan(DEMO, folder, num_gpus=5, sessions=1)


@pytest.mark.parametrize("num_gpus", [1, 2, 3, 4])
def test_fewer_steps_need_fewer_stages(engines: Path, tmp_path: Path, num_gpus: int) -> None:
    """The last of four steps changes little: num_steps of pipeline.json may be three."""
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    dataclasses.replace(CONFIG, num_steps=3).save(artifacts / "pipeline.json")
    shutil.copy(DEMO / "timesteps.safetensors", artifacts)
    shutil.copy(DEMO / "hashes.json", artifacts)
    deployment = plan(artifacts, engines, num_gpus=num_gpus, sessions=1)
    found = configurations(assemble(artifacts, tmp_path / "repository", deployment=deployment))
    stages = found["live_avatar"].parameters["stages"].string_value.split(",")
    owned = [found[stage].parameters["steps"].string_value for stage in stages]
    assert ",".join(owned) == "0,1,2"
    gpus = [found[stage].instance_group[0].gpus[0] for stage in stages]
    assert len({*gpus, found["vae_decoder"].instance_group[0].gpus[0]}) == num_gpus
    with pytest.raises(ValueError, match=r"5 GPUs for 3 steps, wanted 1\.\.4"):
        plan(artifacts, engines, num_gpus=5, sessions=1)


@needs_program("make")
def test_steps_of_cpu_stages_are_refused_for_plans() -> None:
    command = ["make", "-n", "repository", "BACKEND=gpu", "STEPS=0,1 2,3"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "fold plans with GPUS=5|4|3|2|1" in refused.stderr
