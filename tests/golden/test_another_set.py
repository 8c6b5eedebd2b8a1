"""Another fixture set of the same layout passes the same tests: nothing is tuned to this one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the reference runs in torch")

from tests.golden.fixtures import needs_golden
from tests.golden.other_set import write_other_set
from tests.golden.rolling.fixtures import needs_rolling

pytestmark = [needs_golden, needs_rolling]

QUICK = [
    *(f"tests/golden/avatar/test_{name}.py" for name in ("schedule_rope", "lora", "fp8")),
    *(f"tests/golden/rolling/test_{name}.py" for name in ("calls", "vae", "primitives")),
    *("tests/golden/train/test_flow.py", "tests/golden/test_fixture_set.py"),
    "tests/pipeline/pictures/test_reference.py",
]
REST = [
    *(f"tests/golden/avatar/test_{name}.py" for name in ("dit_torch", "vae", "audio_encoder")),
    *(f"tests/golden/rolling/test_{name}.py" for name in ("torch", "sequential")),
    *(f"tests/golden/train/test_{name}.py" for name in ("dmd", "rollout")),
]


def run_tests(root: Path, *files: str) -> subprocess.CompletedProcess[str]:
    """The quick tests of these files on the set in `root`; graphs are made from the same sizes."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    return subprocess.run(
        [*command, "-m", "not slow and not triton", "-k", "not graph and not full_run"],
        env={**os.environ, "GOLDEN_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "files", [QUICK, pytest.param(REST, marks=pytest.mark.slow)], ids=["quick", "rest"]
)
def test_another_set_passes_the_same_suite(tmp_path: Path, files: list[str]) -> None:
    """Sizes, counts and names would stand in the tests, or in the code, instead of being read."""
    write_other_set(tmp_path)
    run = run_tests(tmp_path, *files)
    assert run.returncode == 0, run.stdout[-3000:]
    skipped = [line for line in run.stdout.splitlines() if line.startswith("SKIPPED")]
    assert [line for line in skipped if "no list of keys" not in line] == []


def test_a_set_with_another_number_in_it_fails(tmp_path: Path) -> None:
    """The suite would pass whatever the set says."""
    write_other_set(tmp_path)
    path = tmp_path / "live_avatar" / "manifest.json"
    changed = json.loads(path.read_text())
    changed["size_table_h_w_area_to_H_W"][0][3] += 64
    path.write_text(json.dumps(changed))
    run = run_tests(tmp_path, QUICK[-1])
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout[-3000:]


@pytest.mark.parametrize("content", ["", "live_avatar/README.md"], ids=["nothing", "no tensors"])
def test_a_set_with_nothing_to_compare_fails(tmp_path: Path, content: str) -> None:
    """A mistyped GOLDEN_ROOT would pass with every test skipped."""
    if content:
        (tmp_path / content).parent.mkdir()
        (tmp_path / content).touch()
    run = run_tests(tmp_path, "tests/golden/test_fixture_set.py")
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout[-3000:]
