"""`live-avatar` as a process of its own, or in this one; its exit code and what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from live_avatar_client.command.cli import main

ROOT = Path(__file__).parents[2]
PORTRAIT = ROOT / "examples" / "portrait.png"
Argument = str | bytes | Path


def started(*arguments: Argument, shell: str = "") -> subprocess.Popen:
    """`live-avatar` as its own process; `shell` is what bash does first, `"$@"` the command."""
    command: list[Argument] = [sys.executable, "-m", "live_avatar_client", *arguments]
    if shell:
        command = ["bash", "-c", shell, "bash", *command]
    path = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Exit code and stderr, without a traceback."""
    _, said = process.communicate(timeout=60)
    text = said.decode(errors="backslashreplace")
    assert "Traceback" not in text
    assert "Exception" not in text
    return process.returncode, text


def here(monkeypatch: pytest.MonkeyPatch, capsys, *arguments: Argument) -> tuple[int, str]:
    """Exit code and stderr of `live-avatar` in this process, which is faster."""
    monkeypatch.setattr(sys, "argv", ["live-avatar", *map(os.fsdecode, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return int(end.value.code or 0), said


def stream(url: str, speech: Path, out: Path, *more: Argument) -> tuple[Argument, ...]:
    given = ("--image", PORTRAIT, "--audio", speech, "--out", out, "--url", url)
    return ("stream", *given, *more)
