"""The GPU deployment of text-to-video streams: one GPU, plans in place."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.repository.assemble import assemble
from export.repository.catalogue import ROLLING
from export.repository.deployment import plan
from tests.support.plans import ROLLING_DEMO, ROOT, read_config, write_plans

ENGINES = {model.name: model.graphs for model in ROLLING.models if model.graphs}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plans(tmp_path_factory.mktemp("engines"), ROLLING_DEMO, 999_000_000)


def test_all_models_stand_on_one_gpu_with_their_plans(engines: Path, tmp_path: Path) -> None:
    """A model on another GPU would run, and its memory would be in no table."""
    deployment = plan(ROLLING_DEMO, engines, num_gpus=None, sessions=3)
    out = assemble(ROLLING_DEMO, tmp_path / "repository", deployment=deployment)
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"rolling_forcing", *ENGINES}
    for name in deployment.models():
        config = read_config(out / name / "config.pbtxt")
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


def test_what_does_not_fit_is_refused_with_the_numbers(engines: Path) -> None:
    """The last stream would fail in the middle."""
    words = r"1 sessions do not fit: GPU 0 .*7.00 GB weights.* of 8.00. no session fits; a larger"
    with pytest.raises(ValueError, match=words):
        plan(ROLLING_DEMO, engines, num_gpus=1, sessions=1, gpu_memory_bytes=8_000_000_000)
    with pytest.raises(ValueError, match="0 sessions, wanted 1 or more"):
        plan(ROLLING_DEMO, engines, num_gpus=1, sessions=0)


def test_plans_of_another_export_are_refused_with_both_values(
    engines: Path, tmp_path: Path
) -> None:
    """Last week's weights would run with this week's table of timesteps, unseen."""
    shutil.copy(ROLLING_DEMO / "rolling.json", tmp_path)
    hashes = json.loads((ROLLING_DEMO / "hashes.json").read_text())
    changed = hashes | {"dit_clean.onnx": "ab" * 32}
    (tmp_path / "hashes.json").write_text(json.dumps(changed))
    ours = hashes["dit_clean.onnx"][:12]
    words = rf"dit_clean.plan is built from dit_clean.onnx of sha256 {ours}…, wanted abababababab…"
    with pytest.raises(ValueError, match=rf"plans of another export: {words}; build the engines"):
        plan(tmp_path, engines, num_gpus=1, sessions=1)


def test_more_gpus_than_one_are_refused(engines: Path) -> None:
    """GPUS=2 would leave one idle in silence."""
    with pytest.raises(ValueError, match="2 GPUs, wanted 1: a text-to-video stream runs on one"):
        plan(ROLLING_DEMO, engines, num_gpus=2, sessions=1)


def test_the_command_assembles_what_the_artifacts_are_of(engines: Path, tmp_path: Path) -> None:
    """`make repository BACKEND=gpu` is one command for both systems; nothing beside the standard
    library is there in the image's build."""
    command = [sys.executable, "-m", "export.repository.deployment", "--artifacts", ROLLING_DEMO]
    command += ["--engines", engines, "--out", tmp_path / "repository", "--sessions", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "plans for NVIDIA H100, sm 9.0, tensorrt 11.4.0; 2 sessions" in done.stdout
    assert "windows, VAE, text encoder" in done.stdout
    refused = subprocess.run([*command, "--gpus", "3"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "error: 3 GPUs, wanted 1" in refused.stderr
