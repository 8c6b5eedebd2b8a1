"""A client in another language: Node, with a stub generated from Triton's own service."""

import json
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.server.local import LocalServer
from live_avatar_client import Session, read_audio
from tests.conftest import ROOT

EXAMPLE = ROOT / "examples" / "node"
PORTRAIT, SPEECH = ROOT / "examples" / "portrait.png", ROOT / "examples" / "speech.flac"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example as a user has it behind `npm ci`, in a folder of its own."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no program {program}: apt-get install nodejs npm")
    folder = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    run(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    run(folder, sys.executable, "write_service.py", "triton.protoset")
    return folder


def run(folder: Path, *command: str, code: int = 0) -> str:
    """What it says; the test fails with that if it ends with another code."""
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_every_package_is_locked_by_its_hash() -> None:
    """What npm installs is what was tried."""
    locked = json.loads((EXAMPLE / "package-lock.json").read_text())["packages"]
    wanted = json.loads((EXAMPLE / "package.json").read_text())["dependencies"]
    assert locked[""]["dependencies"] == wanted
    assert all(one["integrity"].startswith("sha512-") for name, one in locked.items() if name)


@pytest.mark.triton
@pytest.mark.slow
def test_a_client_in_node_gets_every_frame(
    folder: Path, server: LocalServer, tmp_path: Path
) -> None:
    """The wire is more than what Python's packages make of it; frames are those of our client."""
    speech = np.concatenate(list(read_audio(SPEECH)))[16_000 : 16_000 + 20_000]
    sound = np.rint(speech * 32767).astype("<i2")
    with wave.open(str(tmp_path / "talk.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(sound.tobytes())
    told = str(PORTRAIT), str(tmp_path / "talk.wav"), str(tmp_path / "frames"), server.grpc_url
    assert run(folder, "node", "session.js", "triton.protoset", *told) == ""
    pictures = [np.asarray(Image.open(file)) for file in sorted((tmp_path / "frames").iterdir())]
    with Session(url=server.grpc_url, image=PORTRAIT, idle=False) as session:
        ours = [block.frames for block in session.stream([sound])]
    np.testing.assert_array_equal(np.stack(pictures), np.concatenate(ours))


@pytest.mark.triton
@pytest.mark.slow
def test_a_client_in_node_hears_what_is_wrong(
    folder: Path, server: LocalServer, tmp_path: Path
) -> None:
    """The server's words arrive, and the program ends."""
    (tmp_path / "talk.wav").write_bytes(bytes(44 + 2 * 1280))
    (tmp_path / "no.png").write_bytes(b"no picture")
    told = str(tmp_path / "no.png"), str(tmp_path / "talk.wav"), str(tmp_path / "frames")
    said = run(folder, "node", "session.js", "triton.protoset", *told, server.grpc_url, code=1)
    assert "image" in said
