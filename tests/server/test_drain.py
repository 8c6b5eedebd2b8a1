"""A server is ended without cutting anybody off."""

import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from deploy.server.admin import read_key
from deploy.server.health import why_not_ready
from deploy.server.ports import ADDRESS, free_ports
from export.repository.assemble import assemble
from live_avatar_client import AvatarError, Session

pytestmark = [pytest.mark.triton, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "examples" / "portrait.png"


def test_sessions_end_by_themselves_and_new_ones_are_refused(tmp_path: Path) -> None:
    """An upgrade would cut everybody off."""
    repository = assemble(ROOT / "artifacts" / "demo", tmp_path / "repository", steps="0,1 2,3")
    ports = free_ports()
    command = [sys.executable, "-m", "deploy.server", "--log-dir", str(tmp_path / "log")]
    numbers = [
        word for name, port in asdict(ports).items() for word in (f"--{name}-port", str(port))
    ]
    start = [*command, "start", "--repository", str(repository), *numbers]
    subprocess.run(start, check=True, capture_output=True)
    url = f"{ADDRESS}:{ports.grpc}"
    frames: list[int] = []

    talker = threading.Thread(target=talk, args=(url, frames))
    talker.start()
    time.sleep(1.5)
    draining = subprocess.Popen(
        [*command, "drain", "--limit-s", "60"], stderr=subprocess.PIPE, text=True
    )
    time.sleep(0.6)
    assert why_not_ready(ports, read_key(tmp_path / "log"))
    began = time.monotonic()
    with (
        pytest.raises(AvatarError, match="it is being drained; try another server"),
        Session(url=url, image=IMAGE) as late,
    ):
        list(late.stream([np.zeros(16_000, np.float32)]))
    assert time.monotonic() - began < 2
    _, said = draining.communicate(timeout=60)
    talker.join()
    assert draining.returncode == 0, said
    assert "is stopped after" in said
    assert frames[0] >= 100
    assert subprocess.run([*command, "status"], capture_output=True, check=False).returncode == 3


def test_a_new_repository_takes_over_without_losing_a_session(tmp_path: Path) -> None:
    """What docs/runbook.md says of an upgrade: two servers, and the old one is drained."""
    old, new = (Beside(tmp_path / name) for name in ("old", "new"))
    frames: list[int] = []
    talker = threading.Thread(target=talk, args=(old.url, frames))
    try:
        for server, name in ((old, "old"), (new, "new")):
            server.run("start", "--repository", str(repository(tmp_path / name)), *server.numbers)
        talker.start()
        time.sleep(1.5)
        draining = subprocess.Popen([*old.command, "drain", "--limit-s", "60"])
        time.sleep(0.6)
        with pytest.raises(AvatarError, match="try another server"):
            talk(old.url, [])
        talk(new.url, frames)
        talker.join()
        assert draining.wait(60) == 0
        assert frames == [100, 100]
    finally:
        for server in (old, new):
            server.run("stop")


def talk(url: str, frames: list[int]) -> None:
    """A session of 4 s of sound, as a microphone gives it; its number of frames is appended."""
    with Session(url=url, image=IMAGE) as session:
        for _ in range(40):
            session.send(np.zeros(1600, np.float32))
            time.sleep(0.1)
        session.finish()
        frames.append(sum(len(block.frames) for block in session))


def repository(folder: Path) -> Path:
    return assemble(ROOT / "artifacts" / "demo", folder / "repository", steps="0,1 2,3")


class Beside:
    """One of two servers of a checkout."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports()
        self.url = f"{ADDRESS}:{ports.grpc}"
        self.command = [sys.executable, "-m", "deploy.server", "--log-dir", str(folder / "log")]
        named = asdict(ports).items()
        self.numbers = [word for name, port in named for word in (f"--{name}-port", str(port))]

    def run(self, *words: str) -> None:
        subprocess.run([*self.command, *words], check=True, capture_output=True)
