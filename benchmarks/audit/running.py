"""One benchmark as a process: its last line, or why there is none, and its memory meanwhile."""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil

SAMPLE_S, GRACE_S = 1.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """`result` is the benchmark's last line; None with the `reason`."""

    seconds: float
    result: dict[str, Any] | None
    reason: str
    memory_mb: list[tuple[float, float]]
    """Seconds since its start, and the resident sets of all its processes together."""

    def saved(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"memory_mb": [list(sample) for sample in self.memory_mb]}


def run(arguments: Sequence[str], limit_s: float, sample_s: float = SAMPLE_S) -> Run:
    """`python` with these arguments, ended after `limit_s`."""
    began = time.monotonic()
    memory: list[tuple[float, float]] = []
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen([sys.executable, *arguments], stdout=out, stderr=words)
        is_late = False
        try:
            while process.poll() is None and not is_late:
                memory.append((round(time.monotonic() - began, 1), resident_mb(process.pid)))
                is_late = time.monotonic() - began > limit_s
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(sample_s)
        finally:
            end(process)
        seconds = round(time.monotonic() - began, 1)
        printed, said = (_read(file) for file in (out, words))
    result, reason = outcome(process.returncode, printed, said)
    if is_late:
        result, reason = None, f"it took longer than its {limit_s:g} s"
    return Run(seconds=seconds, result=result, reason=reason, memory_mb=memory)


def outcome(code: int, printed: str, said: str) -> tuple[dict[str, Any] | None, str]:
    """The object in the last line of what was printed, or None and the reason."""
    if code != 0:
        return None, f"it ended with {code}: {_last(said) or 'and said nothing'}"
    try:
        result = json.loads(_last(printed))
    except ValueError:
        result = None
    if not isinstance(result, dict):
        return None, f"its last line is no JSON object: {_last(printed)[:80]!r}"
    return result, ""


def resident_mb(pid: int) -> float:
    """Of a process and all below it. Pages that they share are counted for each of them."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return round(total / 2**20, 1)


def end(process: "subprocess.Popen[bytes]") -> None:
    """As Ctrl-C would, so that a benchmark ends its server; what is left after half a minute, by
    force."""
    if process.poll() is not None:
        return
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    for left in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.kill()
    process.wait()


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read())


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
