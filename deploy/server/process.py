"""A running Triton server seen from outside: its processes, its shared memory, its end.

    python3 -m deploy.server.process PID TOKEN TIMEOUT_S      ends it when our stdin is closed

A server is known by its pid and its token. The token is the prefix of its shared-memory regions,
so it stands in the command lines of the server and of its Python stubs and in /dev/shm. A pid that
was given to another process since, or a zombie, does not bear it.
"""

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from deploy.checkout import REPO
from deploy.outcome import exit_code

SHARED_MEMORY = Path("/dev/shm")
POLL_S = 0.5


def is_alive(pid: int, token: str) -> bool:
    return token in _command_line(pid)


def stub_pids(token: str, server: int) -> list[int]:
    """The pids of the server's Python stubs, one per model instance, in ascending order."""
    pids = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != server and _is_stub(_command_line(pid), token)]


def stub_model(pid: int) -> str:
    """The model that a stub runs: its folder stands in the command line."""
    script = next((w for w in _command_line(pid).split("\0") if w.endswith("/model.py")), "")
    return Path(script).parents[1].name if script else ""


def is_stopped(pid: int) -> bool:
    """Whether a signal, a debugger or a freezer holds the process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


def end(pid: int, token: str, timeout_s: float) -> None:
    """Ask the server to stop, wait, kill what is left, remove its shared memory. `timeout_s`:
    seconds from the request to the kill. The server unloads its models in that time."""
    send_signal(pid, token, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while is_alive(pid, token) and time.monotonic() < deadline:
        time.sleep(0.02)
    send_signal(pid, token, signal.SIGKILL)
    for stub in stub_pids(token, pid):  # they outlive a server that was killed
        send_signal(stub, token, signal.SIGKILL)
    for region in SHARED_MEMORY.glob(f"{token}*"):
        region.unlink(missing_ok=True)


def guard(pid: int, token: str, timeout_s: float) -> subprocess.Popen[bytes]:
    """End the server when this process does, or when the result's stdin is closed.

    The system closes that pipe however we die, SIGKILL included. (Linux's PR_SET_PDEATHSIG would
    follow the starting *thread*, would miss the Python stubs, and leaves shared memory behind.)
    """
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(pid), token, str(timeout_s)],
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C in the terminal must not end the guard
    )


def _is_stub(command_line: str, token: str) -> bool:
    return token in command_line and "triton_python_backend_stub" in command_line


def send_signal(pid: int, token: str, number: int) -> None:
    """If the process bears the token."""
    if is_alive(pid, token):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:  # it ended
        return ""


def main() -> int:
    pid, token, timeout_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    while is_alive(pid, token) and not select.select([sys.stdin], [], [], POLL_S)[0]:
        pass
    end(pid, token, timeout_s)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
