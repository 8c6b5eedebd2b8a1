"""The quick tests hold what they promise: no torch, no server, and nobody forgets why."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(
    path.parent for path in (ROOT / "tests").rglob("__init__.py") if "torch" in path.read_text()
)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import torch", "a quick test imports torch"),
        ("import networks.dit", "a quick test imports torch"),
        ("LocalServer(Path(), log_dir=Path())._launch({})", "a quick test starts the server"),
    ],
)
def test_torch_and_the_server_are_refused(code: str, words: str) -> None:
    """A minute would become ten, test by test, and nobody would see which."""
    begin = "from pathlib import Path; from tests.support.quick import *; refuse_torch_and_server()"
    done = run("-c", f"{begin}\n{code}")
    assert done.returncode == 1
    assert words in done.stderr


def test_folders_that_need_torch_say_so_once(tmp_path: Path) -> None:
    """A report without the reason would hide that half of the tests did not run."""
    assert len(FOLDERS) >= 8
    quiet = ["-q", "--quick", "--collect-only", "-p", "no:cacheprovider"]
    done = run("-m", "pytest", *quiet, *map(str, FOLDERS))
    reasons = dict(re.findall(r"SKIPPED \[\d+\] (\S+)/__init__.py:\d+: (.+)", done.stdout))
    assert sorted(ROOT / folder for folder in reasons) == FOLDERS
    assert all("torch" in reason for reason in reasons.values())
