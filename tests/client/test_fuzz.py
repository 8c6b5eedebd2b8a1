"""Damaged files give sound or one line, never a crash, and never take the machine along."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.fuzz_files import damaged_files, original_files

pytestmark = pytest.mark.long

_AT_ONCE = 50
"""Files that one process reads: what it costs to start one is shared, a crash ends few."""


def failures_of(folder: Path, names: list[str]) -> list[str]:
    """Files that crashed their process, raised something else, or took too long or too much."""
    failures = []
    while names:
        command = [sys.executable, "-m", "tests.support.fuzz_files", str(folder), *names[:_AT_ONCE]]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if not ended.returncode:
            names = names[_AT_ONCE:]
            continue
        begun = [line.split()[1] for line in ended.stdout.splitlines() if line.startswith("begin")]
        failures.append(f"{begun[-1:]} exit {ended.returncode}: {ended.stderr[-1000:]}")
        names = names[names.index(begun[-1]) + 1 :] if begun else []
    return failures


def fuzz(folder: Path, count: int) -> None:
    names = []
    for name, data in damaged_files(original_files(folder), count):
        (folder / name).write_bytes(data)
        names.append(name)
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda part: failures_of(folder, part), (names[::2], names[1::2]))
    assert not [failure for part in found for failure in part]
    assert not list(folder.glob(".live-avatar-*")), "a temporary file was left behind"


def test_damaged_files_give_sound_or_one_line(tmp_path: Path) -> None:
    """A file that kills the process takes the whole talk with it, without a word of why."""
    fuzz(tmp_path, 112)


@pytest.mark.slow
def test_two_thousand_damaged_files_give_sound_or_one_line(tmp_path: Path) -> None:
    """The rare kinds of the same."""
    fuzz(tmp_path, 2000)
