"""Repositories that once started, were ready, and were wrong: the real server refuses them.

What a model can see alone is refused when it loads, so several wrong ones fit into one start. What
the public model asks the others is told together, too; a start for each kind is slow.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sleeping_repository import build
from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from export.repository.hash_files import write_hashes
from tests.pipeline.identity.test_file_hashes import flip

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]
DEMO, ROLLING = ROOT / "artifacts" / "demo", ROOT / "artifacts" / "rolling-demo"


def refusal(models: Path, log_dir: Path) -> str:
    """Why the server does not start."""
    with pytest.raises(RuntimeError) as caught:
        LocalServer(models, log_dir=log_dir, start_timeout_s=120).start()
    return str(caught.value)


def set_parameter(models: Path, model: str, key: str, value: str) -> None:
    path = models / model / "configs" / "cpu.pbtxt"
    pattern = rf'(key: "{key}" value {{ string_value: )"[^"]*"'
    text, count = re.subn(pattern, rf'\g<1>"{value}"', path.read_text())
    assert count == 1
    path.write_text(text)


def set_field(models: Path, model: str, field: str, value: Any) -> None:
    """Of the model's pipeline.json or rolling.json, which may be a hard link."""
    (path,) = (p for n in ("pipeline", "rolling") for p in models.glob(f"{model}/1/{n}.json"))
    values = json.loads(path.read_text()) | {field: value}
    path.unlink()
    path.write_text(json.dumps(values))


def unlinked(path: Path) -> Path:
    """The file as one of its own, so that a change stays here."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def both_tenants(folder: Path) -> Path:
    return assemble([DEMO, ROLLING], folder / "repository")


def test_what_a_model_can_see_alone_is_refused_when_it_loads(tmp_path: Path) -> None:
    """Rotten weights, a graph of another export, parameters without a meaning: all were ready."""
    models = both_tenants(tmp_path)
    set_parameter(models, "live_avatar", "stages", "dit_stage_0,dit_stage_1,dit_stage_1")
    set_parameter(models, "rolling_forcing", "idle_timeout_s", "nan")
    set_parameter(models, "dit_stage_0", "max_sessions", "-1")
    set_parameter(models, "vae_decoder", "max_sessions", "two")
    set_parameter(models, "dit_stage_1", "steps", "0,2")
    flip(unlinked(models / "dit_stage_2" / "1" / "dit.safetensors"))
    flip(unlinked(models / "text_encoder" / "1" / "text_encoder.safetensors"))
    flip(unlinked(models / "dit_window" / "1" / "window_timesteps.safetensors"))
    graph = models / "rolling_vae_decoder" / "1" / "vae_decoder_first.onnx"
    graph.unlink()
    shutil.copy(ROLLING / "vae_decoder.onnx", graph)
    (models / "dit_stage_3" / "1" / "hashes.json").unlink()
    path = models / "audio_encoder" / "configs" / "cpu.pbtxt"
    set_parameter(models, path.parents[1].name, "num_threads", "0")
    words = refusal(models, tmp_path / "log")
    for part in (
        "live_avatar: parameter stages is 'dit_stage_0,dit_stage_1,dit_stage_1': wanted each model "
        "once, dit_stage_1 is there twice",
        "rolling_forcing: parameter idle_timeout_s is 'nan': wanted a number of seconds above 0",
        "dit_stage_0: parameter max_sessions is '-1': wanted a whole number, 1 or more",
        "vae_decoder: parameter max_sessions is 'two': wanted a whole number, 1 or more",
        "dit_stage_1: parameter steps is '0,2': wanted neighbouring steps in order",
        "dit_stage_2: not the files of this export: dit.safetensors (sha256 ",
        "text_encoder: not the files of this export: text_encoder.safetensors (sha256 ",
        "dit_window: not the files of this export: window_timesteps.safetensors (sha256 ",
        "rolling_vae_decoder: not the files of this export: vae_decoder_first.onnx (sha256 ",
        "dit_stage_3/1/hashes.json is missing; assemble the repository anew: make repository",
        "audio_encoder: parameter num_threads is '0': wanted a whole number, 1 or more",
    ):
        assert part in words


def test_models_that_contradict_each_other_are_refused_with_both_values(tmp_path: Path) -> None:
    """Each was ready, sessions failed or drew something else; both public models ask theirs."""
    models = both_tenants(tmp_path)
    set_parameter(models, "dit_stage_1", "max_sessions", "1")
    set_parameter(models, "dit_stage_2", "steps", "1")
    set_field(models, "vae_decoder", "num_steps", 3)
    set_field(models, "audio_encoder", "audio_context_frames", 125)
    other = models / "vae_encoder" / "1"
    graph = unlinked(other / "vae_encoder.onnx")
    graph.write_bytes(graph.read_bytes() + b"\x22\x00")  # an empty name of its producer's domain
    unlinked(other / "hashes.json")
    write_hashes(other, [graph.name])
    set_parameter(models, "dit_window", "max_sessions", "3")
    set_field(models, "rolling_vae_decoder", "shift", 4.5)
    words = refusal(models, tmp_path / "log")
    for part in (
        "live_avatar: dit_stage_1 takes max_sessions 1, live_avatar 2; they must be equal",
        "vae_decoder has num_steps 3 in its pipeline.json, live_avatar 4 in its pipeline.json",
        "wanted each of 0..3 once and in order, its stages own: dit_stage_0 0, dit_stage_1 1, "
        "dit_stage_2 1, dit_stage_3 3",
        "audio_encoder has audio_context_frames 125 in its pipeline.json, live_avatar 50",
        "vae_encoder is of another export than live_avatar: vae_encoder.onnx (sha256 ",
        "rolling_forcing: dit_window takes max_sessions 3, rolling_forcing 2",
        "rolling_vae_decoder has shift 4.5 in its rolling.json, rolling_forcing 5.0 in its",
    ):
        assert part in words


def test_a_stage_that_is_not_there_is_named_and_health_tells_the_truth(tmp_path: Path) -> None:
    """Every START failed on a server that was ready. Also where nobody waits for the verdict."""
    models = build(tmp_path / "repository", sleep_s=0.001)
    stages = "dit_stage_0,dit_stage_1,dit_stage_2,dit_stage_4"
    set_parameter(models, "live_avatar", "stages", stages)
    words = refusal(models, tmp_path / "log")
    assert "live_avatar: not all of its models can be reached: dit_stage_4: " in words
    assert "'dit_stage_4' is not ready" in words


def test_artifacts_that_rotted_are_refused_in_every_model(tmp_path: Path) -> None:
    """The repository's files are hard links to them: all models would agree on the damage."""
    shutil.copytree(DEMO, tmp_path / "demo")
    flip(tmp_path / "demo" / "dit.safetensors")
    models = assemble(tmp_path / "demo", tmp_path / "repository", models=["audio_tokens"])
    words = refusal(models, tmp_path / "log")
    assert "audio_tokens: not the files of this export: dit.safetensors (sha256 " in words


def give_weights(models: Path, content: str, *names: str) -> None:
    """Weights and their hashes, as from one export."""
    for name in names:
        version = models / name / "1"
        (version / "dit.safetensors").write_text(content)
        write_hashes(version, ["dit.safetensors"])


def test_a_whole_stage_of_another_export_is_refused(tmp_path: Path) -> None:
    """Complete and sound by itself, it would go on from latents of another network."""
    models = build(tmp_path / "repository", sleep_s=0.001)
    give_weights(models, "one export", "live_avatar", *(f"dit_stage_{i}" for i in range(4)))
    give_weights(models, "another export", "dit_stage_2")
    assert re.search(
        r"live_avatar: dit_stage_2 is of another export than live_avatar: dit\.safetensors "
        r"\(sha256 \w{12}…, live_avatar's \w{12}…\); assemble the repository anew",
        refusal(models, tmp_path / "log"),
    )
