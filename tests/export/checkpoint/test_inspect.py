"""What is found in a folder of released files before anything is loaded."""

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from export.checkpoint import inspect as inspect_checkpoint
from export.checkpoint import prepare as prepare_weights
from export.checkpoint.files import read
from export.checkpoint.inspect import Finding
from export.checkpoint.released import DIT_STEM, TEXT_FILE, VAE_FILE
from networks.presets import PRESETS
from tests.support.tiny_release import ALPHA, RANK, lora_state, tiny_preset, write_release

INDEX = f"{DIT_STEM}.safetensors.index.json"
PARTS = ["dit", "vae", "text_encoder", "audio_encoder"]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), tiny_preset())


@pytest.fixture
def release(intact: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(intact, tmp_path / "release"))


def inspect(folder: Path, lora: Path | None = None) -> list[Finding]:
    return inspect_checkpoint.inspect_checkpoint(
        folder, tiny_preset(), lora, rank=RANK, alpha=ALPHA
    )


def problems(folder: Path, lora: Path | None = None) -> list[str]:
    return [problem for finding in inspect(folder, lora) for problem in finding.problems]


def test_an_intact_release_has_no_problems(intact: Path, tmp_path: Path) -> None:
    """Good files would be refused, or a component would not be looked at."""
    save_file(lora_state(tiny_preset()), tmp_path / "lora.safetensors")
    findings = inspect(intact, tmp_path / "lora.safetensors")
    assert [finding.name for finding in findings] == [*PARTS, "lora"]
    assert [finding.problems for finding in findings] == [[]] * len(findings)
    assert all(finding.weights is not None for finding in findings)
    assert findings[3].notes == ["1 not used here: lm_head.weight"]


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{DIT_STEM}-*.safetensors"))


def truncate(folder: Path) -> None:
    os.truncate(shards(folder)[0], shards(folder)[0].stat().st_size - 1)


def truncate_header(folder: Path) -> None:
    os.truncate(shards(folder)[0], 100)


def lose_shard(folder: Path) -> None:
    shards(folder)[1].unlink()


def add_shard(folder: Path) -> None:
    shutil.copyfile(shards(folder)[0], folder / f"{DIT_STEM}-00009-of-00009.safetensors")


def forget_shard(folder: Path) -> None:
    placed = json.loads((folder / INDEX).read_text())
    name = shards(folder)[0].name
    placed["weight_map"] = {k: v for k, v in placed["weight_map"].items() if v != name}
    (folder / INDEX).write_text(json.dumps(placed))


def damage_index(folder: Path) -> None:
    (folder / INDEX).write_text("{")


def change_shape(folder: Path) -> None:
    for path in shards(folder):
        if "head.head.bias" in (state := load_file(path)):
            save_file(state | {"head.head.bias": torch.zeros(3)}, path)


def add_key(folder: Path) -> None:
    path = shards(folder)[0]
    save_file(load_file(path) | {"stray": torch.zeros(1)}, path)


def drop_key(folder: Path) -> None:
    state = torch.load(folder / TEXT_FILE)
    del state["norm.weight"]
    torch.save(state, folder / TEXT_FILE)


def nest(folder: Path) -> None:
    torch.save({"state_dict": torch.load(folder / VAE_FILE)}, folder / VAE_FILE)


def change_config(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"num_heads": 3}))


def lose_audio(folder: Path) -> None:
    shutil.rmtree(folder / "wav2vec2-large-xlsr-53-english")


FAULTS = {
    truncate: "dit: .*-00001-of-.*: is .* bytes, its header says .*: it is truncated",
    truncate_header: "dit: .*-00001-of-.*end inside its header; the file is truncated",
    lose_shard: "dit: .*shard .*-00002-of-.* is missing",
    add_shard: "dit: .*shard .*-00009-of-00009.safetensors is not in the index",
    forget_shard: "dit: .*shard .*-00001-of-.* is not in the index",
    damage_index: "dit: .*index.json: not an index of shards",
    change_shape: r"dit: mis-shaped: head.head.bias \[3\] \(wanted \[16\]\)",
    add_key: "dit: .*: stray is not in the index",
    drop_key: "text_encoder: missing: .*final_layer_norm.weight",
    nest: "vae: .*wanted a flat dict of tensors, it has state_dict",
    change_config: "config: config.json: num_heads is 3, wanted 2",
    lose_audio: "audio_encoder: .*has neither model.safetensors nor pytorch_model.bin",
}


@pytest.mark.parametrize("damage", FAULTS, ids=lambda damage: damage.__name__)
def test_a_damaged_release_is_described(release: Path, damage: Callable[[Path], None]) -> None:
    """The fault would show as wrong pictures, or as an error without a file's name."""
    damage(release)
    found = problems(release)
    assert len(found) == 1, found
    assert re.search(FAULTS[damage], found[0]), found


def test_a_vae_in_half_precision_is_noted(release: Path) -> None:
    """Its numbers would be taken for the released ones."""
    state = torch.load(release / VAE_FILE)
    torch.save({key: tensor.half() for key, tensor in state.items()}, release / VAE_FILE)
    vae = inspect(release)[1]
    assert vae.problems == []
    assert vae.notes == [
        f"{len(state)} tensors are not torch.float32 as released; their digits are lost"
    ]


class Intruder:
    """Unpickled by Python's own pickle, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "save",
    [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))],
    ids=["zip", "plain"],
)
def test_a_pickle_that_holds_code_is_refused_unrun(release: Path, tmp_path: Path, save) -> None:
    """A downloaded file could do whatever its author likes."""
    save({"x": Intruder(tmp_path / "ran")}, release / VAE_FILE)
    (found,) = problems(release)
    assert "refused, it is not plain tensors" in found
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs a command line with the tiny sizes under the name `tiny`."""
    monkeypatch.setitem(PRESETS, "tiny", tiny_preset())

    def run(module, *arguments: object) -> tuple[int, str]:
        app = typer.Typer()
        app.command()(module.main)
        result = CliRunner().invoke(app, [*map(str, arguments), "--preset", "tiny"])
        return result.exit_code, result.output

    return run


def test_the_command_ends_with_1_if_anything_does_not_fit(release: Path, command) -> None:
    """A script would go on with files that do not fit."""
    status, text = command(inspect_checkpoint, release)
    assert status == 0, text
    assert text.count("fits") == len(PARTS)
    change_shape(release)
    status, text = command(inspect_checkpoint, release)
    assert status == 1
    assert "mis-shaped: head.head.bias" in text
    assert command(inspect_checkpoint, release / "nowhere")[0] == 1


def test_prepared_weights_are_the_released_numbers(release: Path, tmp_path: Path, command) -> None:
    """A conversion would lose digits, names or tensors."""
    out = tmp_path / "weights"
    status, text = command(prepare_weights, release, "--out", out)
    assert status == 0, text
    dit = {k: t for path in shards(release) for k, t in load_file(path).items()}
    prepared = {k: t for path in out.glob("dit-*.safetensors") for k, t in load_file(path).items()}
    assert_same(prepared, dit)
    assert_same(load_file(out / "vae.safetensors"), torch.load(release / VAE_FILE))
    assert_same(load_file(out / "text_encoder.safetensors"), torch.load(release / TEXT_FILE))
    audio = load_file(release / "wav2vec2-large-xlsr-53-english" / "model.safetensors")
    del audio["lm_head.weight"]
    assert_same(load_file(out / "audio_encoder.safetensors"), audio)
    assert "left out, not used here: lm_head.weight" in text


def test_a_file_in_pytorch_s_old_format_is_read(release: Path) -> None:
    """Files of 2020 would not convert, though their headers were in order."""
    state = torch.load(release / VAE_FILE)
    torch.save(state, release / VAE_FILE, _use_new_zipfile_serialization=False)
    vae = inspect(release)[1]
    assert vae.problems == []
    assert vae.weights is not None
    assert_same({key: read(vae.weights, key) for key in vae.weights.infos}, state)


def assert_same(got: dict, wanted: dict) -> None:
    assert sorted(got) == sorted(wanted)
    assert [key for key in got if got[key].dtype != wanted[key].dtype] == []
    assert [key for key in got if not torch.equal(got[key], wanted[key])] == []


def test_nothing_is_prepared_from_a_damaged_release(release: Path, tmp_path: Path, command) -> None:
    """Half of the components would lie there, to be taken for all."""
    lose_audio(release)
    status, text = command(prepare_weights, release, "--out", tmp_path / "weights")
    assert status == 1
    assert "audio_encoder" in text
    assert not (tmp_path / "weights").exists()
