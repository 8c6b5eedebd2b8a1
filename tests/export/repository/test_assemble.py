"""The assembled model repository: complete per model, whole or unchanged, never a stranger's."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from export.repository.assemble import REPO, assemble
from export.repository.catalogue import KINDS, ROLLING, SPARE, SYSTEMS, System
from export.repository.folders import copy_code, written
from tests.test_arrows import imports

ARTIFACTS = sorted(
    {name for model in KINDS.values() for name in model.files_in(Path("."))}
    | {"pipeline.json", "hashes.json"}
)


PLACES = {
    "live_avatar": 'parameters { key: "stages" value { string_value: "x" } }',
    "dit_stage_0": 'parameters { key: "steps" value { string_value: "0" } }',
    "dit_stage_1": 'parameters { key: "steps" value { string_value: "1" } }',
}


class Workshop:
    """Small sources and artifacts, and the repository assembled from them."""

    def __init__(self, root: Path) -> None:
        self.sources, self.artifacts = root / "model_repository", root / "artifacts"
        self.pipeline, self.out = root / "pipeline", root / "build" / "model_repository"
        for name in ("live_avatar", "vae_decoder", "dit_stage_0", "dit_stage_1"):
            self.write(self.sources / name / "1" / "model.py", "import pipeline")
            self.write(self.sources / name / "1" / "__pycache__" / "model.pyc", "")
        for name in ("conditioning", "live_avatar", "vae_decoder", "dit_stage_0", "dit_stage_1"):
            text = f'name: "{name}"\n{PLACES.get(name, "")}'
            self.write(self.sources / name / "config.pbtxt", text)
            self.write(self.sources / name / "configs" / "cpu.pbtxt", text)
        for name in ARTIFACTS:
            self.write(self.artifacts / name, f"content of {name}")
        self.write(self.artifacts / "pipeline.json", json.dumps({"num_steps": 2}))
        self.write(self.pipeline / "__init__.py", "")
        self.write(self.pipeline / "stage.py", "# stage")
        self.write(self.pipeline / "__pycache__" / "stage.pyc", "")

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def assemble(self, models: list[str] | None = None, steps: str = "") -> Path:
        return assemble(
            self.artifacts,
            self.out,
            sources=self.sources,
            pipeline=self.pipeline,
            models=models,
            steps=steps,
        )

    def parameters(self, model: str) -> set[str]:
        """What `steps` or `stages` are in the model's two configurations."""
        texts = [path.read_text() for path in (self.out / model).rglob("*.pbtxt")]
        return {found[1] for text in texts if (found := re.search('string_value: "(.*)"', text))}

    def files(self, model: str = "") -> set[str]:
        root = self.out / model
        return {str(path.relative_to(root)) for path in root.rglob("[!.]*") if path.is_file()}


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


CONFIGS = {"config.pbtxt", "configs/cpu.pbtxt"}
CODE = {"1/model.py", "1/pipeline/__init__.py", "1/pipeline/stage.py", "1/pipeline.json"}
CODE |= {"1/hashes.json"}


@pytest.mark.parametrize(
    ("model", "graphs"),
    [
        ("live_avatar", set()),
        ("vae_decoder", {"vae_decoder.onnx", "vae_decoder_warmup.onnx", "vae.safetensors"}),
        (
            "dit_stage_1",
            {
                *("dit_step.onnx", "dit_embed.onnx", "dit_sink.onnx", "dit_text.onnx"),
                *("dit.safetensors", "timesteps.safetensors"),
            },
        ),
    ],
)
def test_python_model_is_complete_by_itself(
    workshop: Workshop, model: str, graphs: set[str]
) -> None:
    """From a bucket Triton fetches one model's folder: a file left beside it is missing there."""
    workshop.assemble()
    assert workshop.files(model) == CONFIGS | CODE | {f"1/{name}" for name in graphs}


def test_ensemble_has_an_empty_version_folder(workshop: Workshop) -> None:
    """Without `1/` Triton finds no version of the ensemble; git cannot keep that folder for us."""
    workshop.assemble()
    assert workshop.files("conditioning") == CONFIGS
    assert (workshop.out / "conditioning" / "1").is_dir()


def test_graphs_are_hard_links_and_code_is_copied(workshop: Workshop) -> None:
    """Symbolic links break in a bucket; linked code would change under a running server."""
    workshop.assemble()
    stage = workshop.out / "dit_stage_0" / "1"
    assert stage.joinpath("dit.safetensors").samefile(workshop.artifacts / "dit.safetensors")
    assert not stage.joinpath("pipeline/stage.py").samefile(workshop.pipeline / "stage.py")
    assert not any(path.is_symlink() for path in workshop.out.rglob("*"))


def test_artifacts_behind_symbolic_links_are_taken_themselves(workshop: Workshop) -> None:
    """Weights often lie on another disk behind a link; a link to it would point nowhere."""
    file = workshop.artifacts / "vae.safetensors"
    file.rename(workshop.artifacts / "elsewhere")
    file.symlink_to(workshop.artifacts / "elsewhere")
    workshop.assemble()
    copy = workshop.out / "vae_decoder" / "1" / "vae.safetensors"
    assert not copy.is_symlink()
    assert copy.read_text() == "content of vae.safetensors"


def test_files_are_copied_where_links_are_impossible(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """build/ on another disk than the artifacts must not end in an error."""

    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    workshop.assemble()
    copy = workshop.out / "vae_decoder" / "1" / "vae.safetensors"
    assert copy.read_text() == "content of vae.safetensors"


def test_tokenizer_goes_to_live_avatar_if_there_is_one(workshop: Workshop) -> None:
    """The prompt is tokenised there; presets without one must still assemble."""
    workshop.write(workshop.artifacts / "tokenizer.json", "{}")
    workshop.assemble()
    assert "1/tokenizer.json" in workshop.files("live_avatar")
    assert "1/tokenizer.json" not in workshop.files("vae_decoder")


def test_missing_artifact_is_named_and_nothing_changes(workshop: Workshop) -> None:
    """A half-assembled repository would serve old stages with new ones."""
    workshop.assemble()
    before = workshop.files()
    (workshop.artifacts / "dit_step.onnx").unlink()
    with pytest.raises(ValueError, match=r"dit_step\.onnx \(for dit_stage_0, dit_stage_1\)"):
        workshop.assemble()
    assert workshop.files() == before
    assert [path.name for path in workshop.out.parent.iterdir()] == ["model_repository"]


def test_artifacts_without_hashes_are_refused_with_the_fix(workshop: Workshop) -> None:
    """Their models could not tell a flipped bit, nor a file of another export."""
    (workshop.artifacts / "hashes.json").unlink()
    with pytest.raises(
        ValueError, match=r"hashes\.json.*python -m export\.repository\.hash_files .*artifacts"
    ):
        workshop.assemble()
    assert not workshop.out.exists()


def test_assembling_again_replaces_all(workshop: Workshop) -> None:
    """A model or module that was removed from the sources must not stay in the repository."""
    workshop.assemble()
    first = workshop.files()
    workshop.assemble()
    assert workshop.files() == first
    (workshop.pipeline / "stage.py").rename(workshop.pipeline / "stages.py")
    workshop.assemble(["live_avatar"])
    assert workshop.files() == {
        f"live_avatar/{name.replace('stage', 'stages')}" for name in CONFIGS | CODE
    }
    assert [path.name for path in workshop.out.parent.iterdir()] == ["model_repository"]


def test_folder_of_someone_else_is_not_replaced(workshop: Workshop) -> None:
    """`--out model_repository` would delete the sources."""
    workshop.write(workshop.out / "letter.txt", "dear")
    with pytest.raises(ValueError, match="was not assembled by this command"):
        workshop.assemble()
    assert workshop.files() == {"letter.txt"}


def test_unknown_models_are_named(workshop: Workshop) -> None:
    """A typing error in --models must not give a repository without that model."""
    with pytest.raises(ValueError, match="no model 'vae_decodr'"):
        workshop.assemble(["vae_decodr"])
    workshop.write(workshop.sources / "upscaler" / "config.pbtxt", "")
    with pytest.raises(ValueError, match=r"'upscaler' is not in .*catalogue\.py"):
        workshop.assemble()


@pytest.mark.parametrize(
    ("num_steps", "steps", "placed"),
    [(2, "", ["0", "1"]), (1, "", ["0"]), (2, "0,1", ["0,1"]), (4, "0,1 2,3", ["0,1", "2,3"])],
)
def test_stages_own_the_steps_they_are_given(
    workshop: Workshop, num_steps: int, steps: str, placed: list[str]
) -> None:
    """A stage without steps, or steps without a stage, would leave noise in the picture."""
    workshop.write(workshop.artifacts / "pipeline.json", json.dumps({"num_steps": num_steps}))
    workshop.assemble(steps=steps)
    stages = [f"dit_stage_{i}" for i in range(len(placed))]
    assert sorted(path.name for path in workshop.out.glob("dit_stage_*")) == stages
    assert [workshop.parameters(stage) for stage in stages] == [{steps} for steps in placed]
    assert workshop.parameters("live_avatar") == {",".join(stages)}


@pytest.mark.parametrize(
    ("num_steps", "steps", "words"),
    [
        (3, "", "3 steps want dit_stage_2, which is not there; fold"),
        (2, "0", r"wanted each of 0\.\.1 once and in order, such as '0 1' or '0,1'"),
        (2, "1 0", "wanted each of"),
        (2, "0;1", "wanted each of"),
    ],
)
def test_steps_that_do_not_go_round_are_refused(
    workshop: Workshop, num_steps: int, steps: str, words: str
) -> None:
    """A block would be denoised twice, or not to the end."""
    workshop.write(workshop.artifacts / "pipeline.json", json.dumps({"num_steps": num_steps}))
    with pytest.raises(ValueError, match=words):
        workshop.assemble(steps=steps)
    assert not workshop.out.exists()


def test_every_model_of_ours_can_be_assembled(tmp_path: Path) -> None:
    """A model added to model_repository/ and not to the table fails at `make repository` only."""
    avatar, rolling = tmp_path / "avatar", tmp_path / "rolling"
    for folder, config in ((avatar, "pipeline.json"), (rolling, "rolling.json")):
        folder.mkdir()
        for name in {*ARTIFACTS, config} - ({"pipeline.json"} if folder == rolling else set()):
            (folder / name).write_text(folder.name)
    (avatar / "pipeline.json").write_text(json.dumps({"num_steps": 4}))
    out = assemble([avatar, rolling], tmp_path / "out", pose=True, spare=True)
    assert (out / "vae_decoder" / "1" / "vae.safetensors").read_text() == "avatar"
    assert (out / "rolling_vae_decoder" / "1" / "vae.safetensors").read_text() == "rolling"
    alone = assemble(rolling, tmp_path / "rolling_alone")
    assert {path.parent.name for path in alone.glob("*/config.pbtxt")} == {
        m.name for m in ROLLING.models
    }
    names = {path.parent.name for path in out.glob("*/config.pbtxt")}
    assert names == {path.parent.name for path in REPO.glob("model_repository/*/config.pbtxt")}
    assert {name.rstrip("_0123456789") for name in names} == set(KINDS)
    plain = assemble(avatar, tmp_path / "plain")
    assert not any((plain / name).exists() for name in ("pose_encoder", SPARE))
    for said, models in (("yes", out), ("no", plain)):
        text = (models / "live_avatar" / "config.pbtxt").read_text()
        for option in ("takes_pose", "spare"):
            assert f'"{option}" value {{ string_value: "{said}" }}' in text


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.config)
def test_a_models_code_is_whole_without_what_is_left_out(system: System, tmp_path: Path) -> None:
    """A module that is missing in one model's folder is missed when the server starts."""
    copy_code(REPO / "pipeline", tmp_path / "pipeline", system.without)
    for part in system.without:
        assert (REPO / "pipeline" / part).exists()
        assert not (tmp_path / "pipeline" / part).exists()
    for model in system.models:
        codes = sorted(REPO.glob(f"model_repository/{model.name}*/1/model.py"))[:1]
        waiting, seen = list(codes), set(codes)
        while waiting:
            file = waiting.pop()
            found = {tmp_path.joinpath(*name.split(".")) for name in imports(file)}
            for path in (path for path in found if path.parts[len(tmp_path.parts)] == "pipeline"):
                module, package = path.with_suffix(".py"), path / "__init__.py"
                is_name_of_module = path.parent.with_suffix(".py").is_file()
                assert module.is_file() or package.is_file() or is_name_of_module, (file, path)
                new = {each for each in (module, package) if each.is_file()} - seen
                waiting += new
                seen |= new


def test_an_encoder_that_is_left_out_again_is_told(tmp_path: Path, capsys: Any) -> None:
    """After `make serve POSE=1` a plain one would refuse pose videos, and nobody knew why."""
    for models in (["live_avatar", "pose_encoder"], ["live_avatar"]):
        (tmp_path / "pose_encoder").mkdir(exist_ok=True)
        with written(tmp_path) as said:
            said += models
    first, second, left_out = capsys.readouterr().err.splitlines()
    assert "pose_encoder" in first
    assert "pose_encoder" not in second
    assert left_out.endswith("pose_encoder was in it and is not any more; POSE=1 keeps it")
