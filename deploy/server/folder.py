"""A server's working folder: its log, its state, links to what has an odd path.

It belongs to one server at a time. Two servers would share a log, in which one would find the
other's verdict, and the links, which one would remove under the other.
"""

import fcntl
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.checkout import REPO
from deploy.server import process
from deploy.server.admin import KEY_FILE

LOG_DIR = REPO / "build" / "server"
"""Of the server that `make serve` leaves running."""
STATE_FILE = "server.json"  # what `stop` and `status` need to know: pid, token, ports
LINKS = ("models", "backends")
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


def running_server(folder: Path = LOG_DIR) -> dict[str, Any] | None:
    """What is known of the server that runs there: pid, token, ports, repository. `RuntimeError` if
    its state cannot be read."""
    path = folder / STATE_FILE
    try:
        state: dict[str, Any] = json.loads(path.read_text())
        return state if process.is_alive(state["pid"], state["token"]) else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeError(
            f"{path} is damaged ({error!r}): end the server by hand if one runs, remove the file"
        ) from None


def describe(state: dict[str, Any]) -> str:
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
        _end_orphans(folder)
    except BaseException:
        os.close(held)
        raise
    return held


def spelled(path: Path, link: Path) -> str:
    """A path as Triton's Python backend can take it, in a process that works in the link's folder.

    The backend starts a model by an unquoted line of bash and reads paths as ASCII: a path with a
    space, a quote or an accent goes through `link`, made anew.
    """
    if _PLAIN.fullmatch(str(path)):
        return str(path)
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    return link.name


def _end_orphans(folder: Path) -> None:
    """What a server left that was killed: processes of its models, and shared memory."""
    with suppress(OSError, ValueError, KeyError):
        state = json.loads((folder / STATE_FILE).read_text())
        process.end(state["pid"], state["token"], 0)
    clear(folder)


def clear(folder: Path) -> None:
    """Remove what a server that has ended left there, all but its log."""
    for name in (STATE_FILE, KEY_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in LINKS:
        if (folder / name).is_symlink():
            (folder / name).unlink()


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
