"""Tests that start other programs, on machines that lack them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from tests.support import programs

ROOT = Path(__file__).parents[1]
NEEDY = (
    "train/test_data",
    "export/repository/test_deployment",
    "deploy/downloads/test_perf_analyzer",
    "deploy/test_setup",
    "deploy/test_systemd",
    "server/monitoring/test_prometheus",
)
CHOSEN = (
    "its_voice or not_written_twice or refused_for_plans or folders_of_its_own or tracked or "
    "takes_the_unit or promtool_is_content"
)
"""Of these files the tests that start a program; each program has one."""


@pytest.mark.long
def test_tests_of_absent_programs_are_skipped_with_the_way_to_get_them(tmp_path: Path) -> None:
    """On a fresh machine the first `make test` would fail, or a skip not say what to do."""
    files = [str(ROOT / "tests" / f"{name}.py") for name in NEEDY]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN]
    found = subprocess.run(
        [*command, *files, "-m", "not slow and not gpu"],
        cwd=ROOT,
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-3000:]
    reasons = re.findall(r"^SKIPPED .*?py(?::\d+)?: (.*)", found.stdout, re.MULTILINE)
    assert set(reasons) == {
        f"needs {program}: apt install {package}" for program, package in programs.PACKAGES.items()
    }


def test_what_is_missing_is_said_in_one_line_and_only_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slow tests would run for half an hour before a skip says what they lacked."""
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "espeak-ng" else name)
    assert programs.main() == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("without espeak-ng: apt install espeak-ng")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert programs.main() == 0
    assert capsys.readouterr().err == ""


def test_a_report_without_git_names_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load test of an hour would end in a traceback where git is not installed."""
    monkeypatch.setenv("PATH", "")
    assert report.machine()["commit"] == "unknown"
