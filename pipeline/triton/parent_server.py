"""The server that runs this model, seen from its process: what Triton does not tell its models.

A model's process is a child of the server's.
"""

import os
from pathlib import Path

LISTENS = "0A"
"""TCP_LISTEN, as the kernel writes it."""


def may_unload(server: Path | None = None) -> bool:
    """Whether the server lets models be unloaded. Where it doesn't, asking may end the server:
    a refused call frees memory that Triton 2.51 still uses. `server`: its folder in /proc."""
    try:
        command = ((server or _parent()) / "cmdline").read_bytes()
    except OSError:
        return False
    return b"--model-control-mode=explicit" in command.replace(b"mode\0", b"mode=")


def is_listening(server: Path | None = None) -> bool:
    """Whether the server listens on a port, which it does when it has loaded the models that it was
    started with. True where that can't be seen. `server`: its folder in /proc."""
    server = server or _parent()
    try:
        links = list((server / "fd").iterdir())
        tables = [path.read_text() for path in (server / "net").glob("tcp*")]
    except OSError:
        return True
    if not tables:
        return True
    opened = {_target(link) for link in links}
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return any(row[3] == LISTENS and f"socket:[{row[9]}]" in opened for row in rows)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed since
        return ""


def _parent() -> Path:
    return Path(f"/proc/{os.getppid()}")
