"""A shell that allows few open files: `ulimit -n`."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.server import open_files
from tests.deploy.server.test_local import DOUBLING, write_model
from tests.support.odd_checkout import copy, error_lines, make
from tests.support.programs import needs_fetched_server

REPO = Path(__file__).resolve().parents[3]
SERVE = """
import resource, sys
from pathlib import Path
soft, hard = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from deploy.server.local import LocalServer
from tests.deploy.server.test_local import double
with LocalServer(Path(sys.argv[3]), log_dir=Path(sys.argv[4])) as server:
    limits = Path(f"/proc/{server.pid}/limits").read_text()
    print([line.split()[3] for line in limits.splitlines() if "open files" in line][0])
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    print(double(server))
"""


def serve(folder: Path, soft: int, hard: int) -> subprocess.CompletedProcess[str]:
    """A server of one small model, started where these limits hold."""
    repository = write_model(folder / "repository", "doubling", DOUBLING)
    command = [sys.executable, "-c", SERVE, str(soft), str(hard), str(repository), str(folder)]
    path = os.pathsep.join([str(REPO), str(REPO / "client")])
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=240)


@pytest.mark.triton
@needs_fetched_server
@pytest.mark.parametrize("hard", [open_files.WANTED, 4096])
def test_the_server_gets_what_the_hard_limit_allows(tmp_path: Path, hard: int) -> None:
    """With a soft limit of 64 Triton hung for minutes; ours must be as it was afterwards."""
    done = serve(tmp_path, 64, hard)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(hard), "64", "[0.0, 2.0, 4.0]"]


@needs_fetched_server
def test_a_hard_limit_that_is_too_low_is_refused_before_the_start(tmp_path: Path) -> None:
    """Triton hangs until the start's time is up, and its log says nothing of files."""
    done = serve(tmp_path, 64, 64)
    assert done.returncode != 0
    assert "a process may open 64 files here (ulimit -Hn), the server wants 256" in done.stderr
    assert not (tmp_path / "server.log").exists()


@pytest.mark.parametrize("goal", ["demo", "serve"])
def test_make_says_so_before_anything_is_made(tmp_path: Path, goal: str) -> None:
    """A minute of downloads would come first."""
    folder = copy(tmp_path / "checkout")
    done = make(folder, goal, before="ulimit -n 64")
    assert done.returncode != 0
    (line,) = error_lines(done)
    assert "may open 64 files here" in line
    assert not (folder / ".venv").exists()


def test_limits_without_end_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that closes every number up to the limit would take hours."""
    asked = []
    endless = resource.RLIM_INFINITY
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (1024, endless))
    monkeypatch.setattr(open_files.resource, "setrlimit", lambda _, limits: asked.append(limits))
    open_files.check()
    with open_files.raised():
        assert asked == [(65536, endless)]
    assert asked[-1] == (1024, endless)
