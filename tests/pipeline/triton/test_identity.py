"""What a holder of sessions tells of itself, on a stand-in for Triton's module."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.engines.manifest import Manifest, manifest_path
from pipeline.identity.holders import Identity
from tests.pipeline.triton.conftest import START, Response
from tests.support.plans import DEMO, describe


class Sessions:
    """A device that knows which sessions are open."""

    def __init__(self) -> None:
        self.open_ones: list[int] = []
        self.cache_bytes = 0

    def open(self, session: int) -> None:
        self.open_ones.append(session)

    def close(self, session: int) -> None:
        self.open_ones.remove(session)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stage's version folder on a GPU: a table, plans' manifests, no graphs."""
    version = tmp_path / "dit_stage_1" / "1"
    version.mkdir(parents=True)
    for name in ("pipeline.json", "hashes.json", "timesteps.safetensors"):
        shutil.copy(DEMO / name, version)
    for graph in ("dit_step", "dit_text"):
        describe(graph).save(manifest_path(version / f"{graph}.plan"))
    return version


def stage(serving: ModuleType, folder: Path, *, count: int = 1, **parameters: str) -> Any:
    """A loaded stage."""
    model = serving.StageModel()
    model.device = Sessions
    values = {"steps": "1,2", "max_sessions": "3", **parameters}
    entries = {key: {"string_value": value} for key, value in values.items()}
    config = {"parameters": entries, "instance_group": [{"count": count, "gpus": [1]}]}
    model.initialize(
        {
            "model_name": "dit_stage_1",
            "model_repository": str(folder.parent),
            "model_version": "1",
            "model_instance_device_id": "1",
            "model_config": json.dumps(config),
        }
    )
    return model


def answer(model: Any, session: int, flags: int) -> Response:
    request = SimpleNamespace(
        correlation_id=lambda: session,
        flags=lambda: flags,
        inputs=lambda: [],
        requested_output_names=lambda: ["identity"],
    )
    (response,) = model.execute([request])
    return response


def test_start_is_answered_with_what_the_stage_is(serving: ModuleType, folder: Path) -> None:
    """The public model would have nothing to compare."""
    model = stage(serving, folder)
    told = answer(model, 7, START).outputs["identity"]
    assert told.dtype == np.uint8
    identity = Identity.from_json(told.tobytes())
    assert (identity.model, identity.steps, identity.max_sessions) == ("dit_stage_1", (1, 2), 3)
    assert identity.config["num_steps"] == 4
    listed = json.loads((folder / "hashes.json").read_text())
    built_from = ("dit_step.onnx", "dit_text.onnx", "dit.safetensors")
    assert identity.files == {name: listed[name] for name in ("timesteps.safetensors", *built_from)}
    assert model.sessions.device.open_ones == [7]
    model.finalize()


def test_asking_opens_no_session(serving: ModuleType, folder: Path) -> None:
    """Each question would take a place, and a cache of gigabytes, for ever."""
    model = stage(serving, folder, max_sessions="1")
    for _ in range(3):
        assert set(answer(model, 0, START).outputs) == {"identity"}
    assert model.sessions.device.open_ones == []
    assert answer(model, 7, START).error is None
    model.finalize()


def test_a_step_that_cannot_be_read_is_answered_in_words(serving: ModuleType, folder: Path) -> None:
    """Triton takes text as a sequence id, and sends a traceback where an answer fails."""
    model = stage(serving, folder)
    for session in (7, "seven"):
        assert answer(model, session, 0).error == "request has no input tick"
    model.finalize()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"count": 2}, "dit_stage_1: instance_group has 2 instances, wanted 1"),
        ({"max_sessions": "0"}, "dit_stage_1: parameter max_sessions is '0': wanted a whole"),
        ({"steps": "2,1"}, "dit_stage_1: parameter steps is '2,1': wanted neighbouring steps"),
    ],
)
def test_a_stage_that_is_configured_wrongly_does_not_load(
    serving: ModuleType, folder: Path, changed: dict[str, Any], words: str
) -> None:
    """It would load, and lose or spoil sessions."""
    with pytest.raises(ValueError, match=words):
        stage(serving, folder, **changed)


def test_a_manifest_that_cannot_be_read_is_named(serving: ModuleType, folder: Path) -> None:
    """Nobody could say what its plan was made from."""
    path = manifest_path(folder / "dit_step.plan")
    values = json.loads(path.read_text())
    del values["sources"]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"dit_step\.manifest\.json.*build the engines anew"):
        stage(serving, folder)
    assert Manifest.load(manifest_path(folder / "dit_text.plan")).graph == "dit_text"


@pytest.mark.parametrize("file", ["dit.safetensors", "dit_text.onnx"])
def test_a_stage_with_a_plan_of_another_export_does_not_load(
    serving: ModuleType, folder: Path, file: str
) -> None:
    """Its table of timesteps is checked, and the network in the plan would be another's."""
    hashes = json.loads((folder / "hashes.json").read_text())
    (folder / "hashes.json").write_text(json.dumps(hashes | {file: "ab" * 32}))
    words = rf"dit_text.plan is built from {file} of sha256 {hashes[file][:12]}…, wanted abababab"
    with pytest.raises(ValueError, match=rf"^dit_stage_1: plans of another export: .*{words}"):
        stage(serving, folder)


def test_a_plan_of_tritons_own_backend_is_of_the_public_models_export(
    serving: ModuleType, tmp_path: Path
) -> None:
    """No model's code sees an encoder's plan, so the public model reads its manifest."""
    public = serving.LiveAvatarModel()
    public.name, public.folder = "live_avatar", tmp_path / "live_avatar" / "1"
    for name in ("live_avatar", "text_encoder"):
        (tmp_path / name / "1").mkdir(parents=True)
    shutil.copy(DEMO / "hashes.json", public.folder)
    manifest = describe("text_encoder")
    path = manifest_path(tmp_path / "text_encoder" / "1" / "model.plan")
    manifest.save(path)
    assert public.stateless(["text_encoder", "audio_encoder"]) == []
    ours = manifest.sources["text_encoder.onnx"][:12]
    other = {**manifest.sources, "text_encoder.onnx": "ab" * 32}
    dataclasses.replace(manifest, sources=other).save(path)
    words = rf"text_encoder.plan is built from .* sha256 abababababab…, wanted {ours}…; build the"
    with pytest.raises(ValueError, match=rf"^text_encoder: plans of another export: {words}"):
        public.stateless(["text_encoder"])
