"""`python -m deploy.server`."""

import json
import os
import subprocess
import sys
from pathlib import Path


def serves(log_dir: Path, repository: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.server", "--log-dir", str(log_dir)]
    command += ["serves", "--repository", str(repository)]
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
    assert "stays as it is; for another: make stop" in kept.stdout + kept.stderr
