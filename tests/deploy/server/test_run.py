"""The supervisor in the foreground, as a container and systemd run it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.client import HTTPConnection
from pathlib import Path

import pytest

from deploy.downloads import triton
from deploy.server import folder, process
from deploy.server.admin import read_key
from deploy.server.health import why_not_ready
from deploy.server.ports import Ports, free_ports, why_taken
from export.repository.assemble import assemble
from tests.support.waiting import happens

pytestmark = [pytest.mark.triton, pytest.mark.slow]
DEMO = Path(__file__).parents[3] / "artifacts" / "demo"


def installed(home: Path) -> Path:
    """A Triton laid out as the container has it in /opt/tritonserver."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home.mkdir()
    (home / "bin").symlink_to((triton.HOME / triton.SERVER).parent)
    (home / "backends").symlink_to(triton.backend_directory(triton.HOME, version))
    return home


def is_up(ports: Ports, log_dir: Path) -> bool:
    return why_taken(ports.ready) is not None and not why_not_ready(ports, read_key(log_dir))


@contextmanager
def running(tmp_path: Path, ports: Ports) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """The process, when a session would be served, and the command without its verb."""
    repository = assemble(DEMO, tmp_path / "repository", steps="0,1,2,3")
    command = [sys.executable, "-m", "deploy.server", "--log-dir", str(tmp_path / "log")]
    words = [w for name, port in asdict(ports).items() for w in (f"--{name}-port", str(port))]
    words += ["--repository", str(repository), "--triton", str(installed(tmp_path / "triton"))]
    words += ["--address", "0.0.0.0", "--exit-timeout-s", "4"]
    said = (tmp_path / "said").open("w")
    server = subprocess.Popen([*command, "run", *words], stdout=said, stderr=said, text=True)
    try:
        assert happens(lambda: server.poll() is not None or is_up(ports, tmp_path / "log"), 90)
        assert server.poll() is None, (tmp_path / "said").read_text()
        yield server, command
    finally:
        server.kill()
        server.wait()
        said.close()
        subprocess.run([*command, "stop"], check=True, capture_output=True)


@pytest.mark.parametrize("end", ["drain", "signal"])
def test_the_server_ends_with_its_supervisor(tmp_path: Path, end: str) -> None:
    """A container would stay for ever, or leave processes behind; its exit code would lie."""
    ports = free_ports()
    with running(tmp_path, ports) as (supervisor, command):
        state = json.loads((tmp_path / "log" / folder.STATE_FILE).read_text())
        assert process.is_alive(state["pid"], state["token"])
        if end == "drain":
            drained = subprocess.run([*command, "drain", "--limit-s", "30"], capture_output=True)
            assert drained.returncode == 0, drained.stderr
        else:
            supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(30) == 0
        assert not process.is_alive(state["pid"], state["token"])
        assert process.stub_pids(state["token"], state["pid"]) == []
        assert why_taken(ports.ready) is None
    said = (tmp_path / "said").read_text()
    assert "Started GRPCInferenceService at 0.0.0.0" in said, "the server's log goes to ours"
    assert "Started HTTPService at 127.0.0.1" in said, "it unloads models for whoever asks"


def test_a_killed_server_comes_back_where_it_was(tmp_path: Path) -> None:
    """The new one would listen on the loopback interface alone, out of a balancer's reach."""
    ports, log_dir = free_ports(), tmp_path / "log"
    with running(tmp_path, ports):
        first = json.loads((log_dir / folder.STATE_FILE).read_text())
        for _ in range(2):  # it could be brought back once, not twice
            state = json.loads((log_dir / folder.STATE_FILE).read_text())
            process.send_signal(state["pid"], state["token"], signal.SIGKILL)
            assert happens(lambda: not is_up(ports, log_dir), 2)
            connection = HTTPConnection("127.0.0.1", ports.ready, timeout=5)
            connection.request("GET", "/alive")
            assert connection.getresponse().status == 200, "a container that heals would be killed"
            connection.close()
            assert happens(lambda: is_up(ports, log_dir), 90)
        anew = json.loads((log_dir / folder.STATE_FILE).read_text())
        kept = ("address", "home", "exit_timeout_s", "start_timeout_s", "ports")
        assert [anew[name] for name in kept] == [first[name] for name in kept]
        assert (anew["address"], anew["exit_timeout_s"]) == ("0.0.0.0", 4)
