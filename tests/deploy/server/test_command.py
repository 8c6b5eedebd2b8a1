"""`python -m deploy.server`."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from deploy.server.ports import free_ports, plain_ports


def serves(log_dir: Path, repository: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.server", "--log-dir", str(log_dir)]
    command += ["serves", "--repository", str(repository), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_repository_is_kept_while_a_server_runs_from_it(tmp_path: Path) -> None:
    """A model that died would be loaded anew from another repository than its neighbours."""
    ours, other = tmp_path / "ours", tmp_path / "other"
    assert serves(tmp_path, ours).returncode == 3
    state = {
        "pid": os.getpid(),
        "token": Path(sys.executable).name,
        "ports": {"grpc": 8001},
        "repository": str(ours),
    }
    (tmp_path / "server.json").write_text(json.dumps(state))
    assert serves(tmp_path, other).returncode == 3
    kept = serves(tmp_path, tmp_path / "other" / ".." / "ours")
    assert kept.returncode == 0
    assert "stays as it is, without pose_encoder; for another: make stop" in kept.stderr
    refused = serves(tmp_path, ours, "--pose")
    assert refused.returncode == 1, "POSE=1 would change nothing, and nobody would know"
    assert "without pose_encoder.\n  Fix: make stop, then make serve POSE=1" in refused.stderr
    (ours / "pose_encoder").mkdir(parents=True)
    kept = serves(tmp_path, ours, "--pose")
    assert kept.returncode == 0
    assert "with pose_encoder" in kept.stderr


@pytest.mark.parametrize(
    ("address", "is_encrypted", "words"),
    [
        ("127.0.0.1", False, "^$"),
        ("::1", False, "^$"),
        ("0.0.0.0", False, "^warning: gRPC, metrics and readiness listen at 0.0.0.0 without TLS"),
        ("::", True, "^warning: metrics and readiness listen at :: without TLS"),
    ],
)
def test_ports_that_others_reach_without_tls_are_told(
    address: str, is_encrypted: bool, words: str
) -> None:
    """A container's server is plain on purpose; who runs it elsewhere has to know."""
    assert re.search(words, plain_ports(address, is_encrypted=is_encrypted))


def test_the_warning_comes_before_the_server_starts(tmp_path: Path) -> None:
    """Nobody reads it behind the server's own log."""
    command = [sys.executable, "-m", "deploy.server", "--log-dir", str(tmp_path), "run"]
    command += ["--repository", str(tmp_path / "none")]
    for name, port in asdict(free_ports()).items():
        command += [f"--{name}-port", str(port)]
    said = subprocess.run([*command, "--address=0.0.0.0"], capture_output=True, text=True)
    assert said.stderr.splitlines()[0].startswith("warning: gRPC, metrics and readiness listen at")
    said = subprocess.run([*command, "--address=here"], capture_output=True, text=True)
    assert said.stderr.startswith("error: --address is 'here', wanted an interface's address")
