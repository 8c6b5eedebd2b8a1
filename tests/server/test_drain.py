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

    def talk() -> None:
        with Session(url=url, image=IMAGE) as session:
            for _ in range(40):  # 4 s, as a microphone would
                session.send(np.zeros(1600, np.float32))
                time.sleep(0.1)
            session.finish()
            frames.append(sum(len(block.frames) for block in session))

    talker = threading.Thread(target=talk)
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
