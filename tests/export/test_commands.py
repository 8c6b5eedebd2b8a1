"""How the commands of `export` end when they are given what is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOPE, FILE = "no/such/folder", "README.md/below"
WEIGHTS = "artifacts/demo"


@pytest.mark.parametrize(
    "command",
    [
        f"to_onnx --preset demo --weights {NOPE} --out OUT",
        f"to_onnx --preset demo --weights {WEIGHTS} --out {FILE}",
        f"to_onnx --preset rolling-demo --weights {NOPE} --out OUT",
        f"to_onnx --preset rolling-demo --weights artifacts/rolling-demo --out {FILE}",
        f"presets --preset demo --out {FILE}",
        f"engines.build --graphs {NOPE} --out OUT",
        f"repository.deployment --artifacts {NOPE} --engines OUT --out OUT",
        f"repository.deployment --artifacts {WEIGHTS} --engines {NOPE} --out OUT",
        f"repository.assemble --artifacts {NOPE} --out OUT",
        f"repository.assemble --artifacts {WEIGHTS} --out {FILE}",
        f"repository.hash_files {NOPE}",
        "repository.hash_files README.md",
    ],
)
def test_an_export_command_ends_in_one_line(tmp_path: Path, command: str) -> None:
    """A traceback of twenty lines hides the one that matters."""
    pytest.importorskip("torch")
    words = [str(tmp_path / "out") if word == "OUT" else word for word in command.split()]
    done = subprocess.run(
        [sys.executable, "-m", f"export.{words[0]}", *words[1:]],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("exporting ")]
    assert done.returncode == 1
    assert len(said) == 1, done.stderr
    assert said[0].startswith("error: ")
