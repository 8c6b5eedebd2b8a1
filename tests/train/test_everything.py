"""The recipe as one command: what it runs, skips and goes on from."""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from train import everything
from train.everything import SHARES, Recipe, Stage, run

NAMES = ["vae", "audio", "text", "clips_train", "clips_dev", "teacher", "student", "decoder",
         "artifacts", "report"]  # fmt: skip


class UnderstoodError(Exception):
    """Raised instead of doing what the command says."""


def recipe(out: Path, device: str = "cpu") -> list[Stage]:
    return Recipe(out, 6.0, 2, 3, device, "bfloat16").stages()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_stage_is_a_command_that_its_module_understands(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After hours of learning the next stage would end with a usage message."""
    parse = argparse.ArgumentParser.parse_args

    def understood(parser: argparse.ArgumentParser) -> None:
        raise UnderstoodError(parse(parser))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", understood)
    listed = recipe(tmp_path, device)
    assert [stage.name for stage in listed] == NAMES
    for stage in listed:
        module, *options = stage.command
        command = module if module == "export.to_onnx" else f"{module}.__main__"
        main = importlib.import_module(command).main
        if module == "export.to_onnx":  # Typer's; the others are argparse's
            app = typer.Typer()
            app.command()(main)
            assert typer.main.get_command(app).make_context(module, options)
            continue
        resumed = ["--resume"] if stage.state is not None else []
        monkeypatch.setattr(sys, "argv", [module, *options, *resumed])
        with pytest.raises(UnderstoodError) as caught:
            main()
        (args,) = caught.value.args
        assert getattr(args, "seed", 3) == 3 or module == "train.latents", stage.name
        assert getattr(args, "device", device) == device


def test_the_hours_are_shared_out_among_what_learns(tmp_path: Path) -> None:
    """Six hours would become another number."""
    minutes = {
        stage.name: float(stage.command[stage.command.index("--minutes") + 1])
        for stage in recipe(tmp_path)
        if "--minutes" in stage.command
    }
    assert minutes.keys() == SHARES.keys()
    assert sum(minutes.values()) == pytest.approx(360)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would have been run; a command with "broken" in it fails."""
    given: list[list[str]] = []

    def pretend(command: list[str], check: bool) -> None:
        assert check
        given.append(command[2:])
        if "broken" in command:
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", pretend)
    return given


def test_a_stage_that_was_stopped_goes_on_from_its_last_save(
    tmp_path: Path, commands: list[list[str]]
) -> None:
    """Hours would begin anew, or a stage ask for a state that was never saved."""
    state, done = tmp_path / "state.pt", tmp_path / "done" / "vae"
    stage = Stage(name="vae", command=["train.vae"], state=state)
    run(stage, done)
    state.touch()
    run(stage, done)
    assert commands == [["train.vae"], ["train.vae", "--resume"]]
    broken = Stage(name="teacher", command=["broken"])
    with pytest.raises(subprocess.CalledProcessError):
        run(broken, tmp_path / "done" / "teacher")
    assert [path.name for path in (tmp_path / "done").iterdir()] == ["vae"]


def test_what_is_exported_is_the_student_with_the_last_decoder(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher, or the decoder that has not seen leftover noise, would be shipped."""
    for name in ("weights/audio", "vae", "student", "decoder", "done"):
        (tmp_path / name).mkdir(parents=True)
    files = {"weights/audio_encoder.safetensors": "audio", "weights/vae.safetensors": "first",
             "weights/audio/state.pt": "state", "vae/vae.safetensors": "first",
             "student/dit.safetensors": "student", "decoder/vae.safetensors": "last"}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for name in NAMES[:-2]:
        (tmp_path / "done" / name).touch()
    monkeypatch.setattr(sys, "argv", ["everything", "--out", str(tmp_path)])
    everything.main()
    assert [command[0] for command in commands] == ["export.to_onnx", "train.evaluate"]
    exported = Path(commands[0][commands[0].index("--weights") + 1])
    assert {path.name: path.read_text() for path in exported.iterdir()} == {
        "audio_encoder.safetensors": "audio",
        "vae.safetensors": "last",
        "dit.safetensors": "student",
    }
