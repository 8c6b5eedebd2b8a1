"""`python -m deploy.server`."""

import json
import os
import subprocess
import sys
from pathlib import Path


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
