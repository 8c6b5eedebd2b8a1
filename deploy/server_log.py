"""What a server's log says about its failure."""

from __future__ import annotations

import re
from pathlib import Path

# with --log-format=ISO8601: 2026-01-31T12:00:00Z E 123 server.cc:241] "text with \\n in it"
_ERROR = re.compile(r"^\S+ E \d+ \S+\] (?P<text>.*)$")
_HARMLESS = ("CudaDriverHelper",)  # said once on every machine without a GPU
_TAIL_LINES = 15


def failure(log: Path) -> str:
    """The error lines of the log, unescaped; its last lines if there is no error line."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [text for line in lines if (text := _error_text(line))]
    return "\n".join(errors or lines[-_TAIL_LINES:]) or "(the log is empty)"


def _error_text(line: str) -> str | None:
    if line.startswith("error: "):  # the server's last words, outside its log format
        return line.removeprefix("error: ")
    found = _ERROR.match(line)
    if not found or any(word in line for word in _HARMLESS):
        return None
    text = found["text"].strip('"').replace("\\n", "\n").rstrip()
    return "\n".join(line for line in text.splitlines() if "<frozen importlib" not in line)
