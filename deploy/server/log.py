"""What a server's log says about its failure."""

import re
from pathlib import Path

# with --log-format=ISO8601: 2026-01-31T12:00:00Z E 123 server.cc:241] "text with \\n in it"
_ERROR = re.compile(r"^\S+ E \d+ \S+\] (?P<text>.*)$")
_HARMLESS = ("CudaDriverHelper",)  # said once on every machine without a GPU
_TAIL_LINES = 15
EXAMINERS = ("live_avatar", "rolling_forcing")
"""Models that ask, after they have loaded, whether those that they call belong together."""
_VERDICT = re.compile(
    rf"^\S+ [IE] \d+ \S+\] \"(?P<model>{'|'.join(EXAMINERS)})"
    r"(?:: its models belong together| refuses every session: (?P<words>.*))\"$",
    re.M,
)


def failure(log: Path) -> str:
    """The error lines of the log, unescaped; its last lines if there is no error line."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [text for line in lines if (text := _error_text(line))]
    return "\n".join(errors or lines[-_TAIL_LINES:]) or "(the log is empty)"


def verdicts(log: Path) -> dict[str, str]:
    """Public model -> why it refuses every session, "" if it doesn't; without those that have not
    said so yet."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return {found["model"]: found["words"] or "" for found in _VERDICT.finditer(text)}


def _error_text(line: str) -> str | None:
    if line.startswith("error: "):  # the server's last words, outside its log format
        return line.removeprefix("error: ")
    found = _ERROR.match(line)
    if not found or any(word in line for word in _HARMLESS):
        return None
    text = found["text"].strip('"').replace("\\n", "\n").rstrip()
    return "\n".join(line for line in text.splitlines() if "<frozen importlib" not in line)
