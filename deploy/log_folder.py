"""The folder of a server's log: it belongs to one server at a time.

Two servers in it would share a log, in which one would find the other's verdict, and the links of
`plain_paths`, which one would remove under the other.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from deploy import server_process

STATE_FILE = "server.json"  # what `stop` and `status` need to know: pid, token, ports


def running_server(folder: Path) -> dict | None:
    """What is known of the server that runs there: pid, token, ports, repository.

    `RuntimeError` if its state cannot be read.
    """
    path = folder / STATE_FILE
    try:
        state = json.loads(path.read_text())
        return state if server_process.is_alive(state["pid"], state["token"]) else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeError(
            f"{path} is damaged ({error!r}): end the server by hand if one runs, remove the file"
        ) from None


def describe(state: dict) -> str:
    return f"the server on gRPC port {state['ports']['grpc']} (process {state['pid']})"


def take(folder: Path) -> int:
    """Make the folder and take it for a server: a file descriptor, which holds it until it is
    closed or this process ends. `RuntimeError` if another server starts or runs there."""
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(held, folder)
        if state := running_server(folder):
            raise RuntimeError(f"{describe(state)} runs already.\n  Fix: make stop")
    except BaseException:
        os.close(held)
        raise
    return held


def _lock(held: int, folder: Path) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RuntimeError(
            f"another server that writes its log to {folder} is starting or runs: wait for it, "
            "end it, or name another folder for the log"
        ) from None
    except OSError:
        return  # a disk in a network that locks no folders
