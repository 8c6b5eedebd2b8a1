"""Runs phases one after the other, each in a process of its own and up to its deadline.

A crash on a GPU stays with the process that caused it, so no phase can end the others.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TAIL = 1500
"""Characters that are kept of what a process said, if all was not well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A question, the module that answers it, and how long it may take."""

    name: str
    title: str
    module: str
    deadline_s: float


def run(phase: Phase, is_miniature: bool, env: Mapping[str, str]) -> dict[str, Any]:
    """The phase's line: what it found, until it ended, died, or was ended at its deadline."""
    with tempfile.TemporaryDirectory() as folder:
        found, log = Path(folder, "findings"), Path(folder, "log")
        found.touch()
        command = [sys.executable, "-m", "benchmarks.gpu_experiment.phase", phase.module]
        command += [str(found), *["--miniature"] * is_miniature]
        began = time.perf_counter()
        with log.open("w") as output, _group(command, output, env) as process:
            try:
                process.wait(phase.deadline_s)
                ended = None if process.returncode in (0, 1) else _death(process.returncode)
            except subprocess.TimeoutExpired:
                ended = f"not done after {phase.deadline_s:g} s"
        seconds = round(time.perf_counter() - began, 2)
        line: dict[str, Any] = {"phase": phase.name, "title": phase.title, "seconds": seconds}
        line |= {"ok": False, **_read(found)}
        line["error"] = ended or line["error"]
        line["ok"] = line["error"] is None and all(line["asserts"].values())
        if not line["ok"]:
            line["last_words"] = log.read_text(errors="replace").strip()[-TAIL:]
    return line


@contextlib.contextmanager
def _group(
    command: list[str], output: Any, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with all that it starts; none of them lives on."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=ROOT, env=env, process_group=0, **streams)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _death(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _read(path: Path) -> dict[str, Any]:
    """Findings by kind; a line that was cut off as its writer was killed is none."""
    line: dict[str, Any] = {"asserts": {}, "figures": {}, "reasons": {}, "error": None}
    for text in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            kind, name, value = json.loads(text)
            if kind == "error":
                line["error"] = value
            else:
                line[kind][name] = value
    return line


def environment(wheels: Iterable[Path], site: Path) -> dict[str, str]:
    """The environment of here, with our packages and those of `wheels`, unpacked into `site`."""
    for wheel in wheels:
        zipfile.ZipFile(wheel).extractall(site)
    path = [str(ROOT), str(site), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
