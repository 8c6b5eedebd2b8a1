"""End a Triton server when the process that started it dies.

    python3 -m deploy.server.guard PID TOKEN TIMEOUT_S

Its standard input is a pipe whose other end only the starting process holds: the system closes it
however that process dies, SIGKILL included. (Linux's PR_SET_PDEATHSIG would follow the starting
*thread*, would miss the Python stubs, and leaves their shared memory behind.)
"""

import select
import subprocess
import sys

from deploy.checkout import REPO
from deploy.outcome import exit_code
from deploy.server import process

POLL_S = 0.5


def start(pid: int, token: str, timeout_s: float) -> subprocess.Popen[bytes]:
    """Guard the server `pid` from now on; closing the result's stdin ends the server."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(pid), token, str(timeout_s)],
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C in the terminal must not end the guard
    )


def main() -> int:
    pid, token, timeout_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    while process.is_alive(pid, token):
        closed, _, _ = select.select([sys.stdin], [], [], POLL_S)
        if closed:
            break
    process.end(pid, token, timeout_s)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
