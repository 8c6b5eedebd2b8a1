"""The merge's command line, and what it leaves behind when it fails."""

import errno
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from export.checkpoint import lora as merge_lora
from export.checkpoint import writer as checkpoint_writer
from export.checkpoint.released import DIT_STEM
from tests.support.tiny_release import ALPHA, RANK, lora_state, tiny_preset, write_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), tiny_preset())


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    save_file(lora_state(tiny_preset()), path)
    return path


def merge(folder: Path, lora: Path, out: Path, rank: int = RANK) -> Result:
    app = typer.Typer()
    app.command()(merge_lora.main)
    arguments = [folder, "--lora", lora, "--out", out, "--rank", rank, "--alpha", ALPHA]
    return CliRunner().invoke(app, [*map(str, arguments)])


def state_of(folder: Path, stem: str) -> dict[str, torch.Tensor]:
    return {k: t for p in folder.glob(f"{stem}*.safetensors") for k, t in load_file(p).items()}


def test_the_command_merges_shard_by_shard(release: Path, lora: Path, tmp_path: Path) -> None:
    """The merged network would not be the base plus alpha / rank times B A, in the base's type."""
    result = merge(release, lora, tmp_path)
    assert result.exit_code == 0, result.output
    base, got, update = state_of(release, DIT_STEM), state_of(tmp_path, "dit"), load_file(lora)
    assert sorted(got) == sorted(base)
    assert len(list(tmp_path.glob("dit-*.safetensors"))) == len(
        list(release.glob(f"{DIT_STEM}-*.safetensors"))
    )
    num_updated = 0
    for key, tensor in base.items():
        module = f"base_model.model.{key.removesuffix('.weight')}"
        wanted = tensor
        if (a := update.get(f"{module}.lora_A.default.weight")) is not None:
            b = update[f"{module}.lora_B.default.weight"]
            wanted = (tensor.float() + ALPHA / RANK * b @ a).to(tensor.dtype)
            num_updated += 1
        assert torch.equal(got[key], wanted), key
    assert 2 * num_updated == len(update)


class Refusal(NamedTuple):
    """A LoRA that must not be merged, and what has to be said."""

    state: dict[str, torch.Tensor]
    words: str


def refusals() -> dict[str, Refusal]:
    state = lora_state(tiny_preset())
    return {
        "another rank": Refusal(lora_state(tiny_preset(), rank=2 * RANK), f"at rank {RANK}"),
        "another model": Refusal(
            {key.replace("blocks", "layers"): t for key, t in state.items()},
            "the network has no layers.0.ffn.0.weight",
        ),
        "half of a pair": Refusal(dict(sorted(state.items())[1:]), "its other half is missing"),
    }


@pytest.mark.parametrize("name", refusals())
def test_a_lora_that_does_not_fit_is_refused(release: Path, tmp_path: Path, name: str) -> None:
    """Its tensors would be skipped, and the video would look like the base model's."""
    state, words = refusals()[name]
    save_file(state, tmp_path / "lora.safetensors")
    result = merge(release, tmp_path / "lora.safetensors", tmp_path / "out")
    assert result.exit_code == 1
    assert words in result.output
    assert not (tmp_path / "out").exists()


def test_a_missing_or_truncated_lora_is_named(release: Path, lora: Path, tmp_path: Path) -> None:
    """The user would see a traceback."""
    broken = Path(shutil.copyfile(lora, tmp_path / "broken.safetensors"))
    with broken.open("r+b") as file:
        file.truncate(broken.stat().st_size - 2)
    for path, words in ((broken, "truncated"), (tmp_path / "none", "there is no such LoRA file")):
        result = merge(release, path, tmp_path / "out")
        assert result.exit_code == 1
        assert words in result.output


@pytest.mark.parametrize("earlier", [False, True], ids=["new folder", "over an earlier merge"])
def test_a_full_disk_leaves_nothing_half_written(
    release: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    """A file of zeros or half a file would be served as the network."""
    if earlier:
        assert merge(release, lora, tmp_path).exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    written = checkpoint_writer._bytes
    calls = []

    def full(tensor: torch.Tensor) -> memoryview:
        calls.append(tensor)
        if len(calls) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(tensor)

    monkeypatch.setattr(checkpoint_writer, "_bytes", full)
    result = merge(release, lora, tmp_path)
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_too_small_a_disk_is_known_before_anything_is_written(
    release: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of copying would end with an error."""
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(checkpoint_writer.shutil, "disk_usage", lambda path: usage)
    result = merge(release, lora, tmp_path)
    assert result.exit_code == 1
    assert "the disk has 0.0 GB free" in result.output
    assert list(tmp_path.iterdir()) == []
