"""The process beside the server of `make serve`: it outlives the server and starts it anew."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from deploy.server import folder, process, supervise
from deploy.server.health import why_not_ready
from deploy.server.local import LocalServer
from deploy.server.ports import Ports, free_ports, why_taken
from export.repository.assemble import assemble

pytestmark = [pytest.mark.triton, pytest.mark.slow]
DEMO = Path(__file__).parents[3] / "artifacts" / "demo"


@pytest.fixture
def log_dir(tmp_path: Path) -> Iterator[Path]:
    """Of a server that runs under supervision."""
    repository = assemble(DEMO, tmp_path / "repository", steps="0,1,2,3")
    log_dir, ports = tmp_path / "log", asdict(free_ports()).items()
    command = [sys.executable, "-m", "deploy.server", "--log-dir", str(log_dir)]
    numbers = [word for name, port in ports for word in (f"--{name}-port", str(port))]
    begun = [*command, "start", "--repository", str(repository), *numbers]
    subprocess.run(begun, check=True, capture_output=True)
    yield log_dir
    subprocess.run([*command, "stop"], check=True, capture_output=True)


def until_ready(ports: Ports, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while why_taken(ports.ready) is None or why_not_ready(ports, key=""):
        assert time.monotonic() < deadline, why_not_ready(ports, key="")
        time.sleep(0.05)


def test_a_server_that_is_killed_is_started_anew_and_leaves_nothing(log_dir: Path) -> None:
    """Ten processes and their memory stayed, and nobody was served."""
    state = json.loads((log_dir / folder.STATE_FILE).read_text())
    ports, pid, token = Ports(**state["ports"]), state["pid"], state["token"]
    until_ready(ports)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 0.5
    while not why_not_ready(ports, key=""):
        assert time.monotonic() < deadline
    until_ready(ports)
    assert process.stub_pids(token, pid) == []
    assert list(process.SHARED_MEMORY.glob(f"{token}*")) == []
    anew = folder.running_server(log_dir)
    assert anew is not None
    assert (anew["ports"], anew["pid"] != pid) == (state["ports"], True)
    supervise.end(log_dir)
    assert why_taken(ports.ready) is None
    assert folder.running_server(log_dir) == anew


def stubs_of(state: dict[str, Any], model: str) -> list[int]:
    stubs = process.stub_pids(state["token"], state["pid"])
    return [pid for pid in stubs if process.stub_model(pid) == model]


def test_a_model_that_dies_while_it_is_loaded_does_not_stop_the_server_for_ever(
    log_dir: Path,
) -> None:
    """Triton waited for a process that was dead, and no session could start any more."""
    state = json.loads((log_dir / folder.STATE_FILE).read_text())
    ports = Ports(**state["ports"])
    until_ready(ports)
    os.kill(stubs_of(state, "dit_stage_0")[0], signal.SIGKILL)
    time.sleep(0.6)  # the next one is there, and not done
    for pid in (*stubs_of(state, "dit_stage_0"), *stubs_of(state, "vae_decoder")):
        os.kill(pid, signal.SIGKILL)
    assert why_not_ready(ports, key="")
    until_ready(ports)


def test_a_supervisor_that_comes_late_finds_who_is_dead(log_dir: Path) -> None:
    """It saw seven of eight processes, took them for all, and said that all was well."""
    state = json.loads((log_dir / folder.STATE_FILE).read_text())
    ports = Ports(**state["ports"])
    until_ready(ports)
    supervise.end(log_dir)
    (pid,) = stubs_of(state, "vae_decoder")
    os.kill(pid, signal.SIGKILL)
    said = subprocess.run(
        [sys.executable, "-m", "deploy.server", "--log-dir", str(log_dir), "status"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, "supervisor has died" in said.stderr + said.stdout) == (3, True)
    late = subprocess.Popen([sys.executable, "-m", "deploy.server.supervise", str(log_dir)])
    until_ready(ports)
    (anew,) = stubs_of(state, "vae_decoder")
    assert anew != pid
    supervise.end(log_dir)  # of whoever started it
    assert late.wait(5) == 0


@pytest.mark.slow
def test_the_next_server_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    """Without a supervisor nobody else would."""
    repository = assemble(DEMO, tmp_path / "repository", steps="0,1,2,3")
    dead = LocalServer(repository, log_dir=tmp_path / "log", outlives_us=True).start()
    os.kill(dead.pid, signal.SIGKILL)
    os.waitpid(dead.pid, 0)
    assert process.stub_pids(dead.token, dead.pid)
    dead.let_go()
    with LocalServer(repository, log_dir=tmp_path / "log"):
        assert process.stub_pids(dead.token, dead.pid) == []
        assert list(process.SHARED_MEMORY.glob(f"{dead.token}*")) == []
