"""The process that stays beside the server of `make serve`.

    python3 -m deploy.server.supervise FOLDER [--owns]

It supervises the server whose working folder that is, starts it anew when it has died or has
reloaded too many models, and answers GET /ready on the server's `ready` port. SIGTERM ends it and
leaves the server alone, unless it owns the server (containers, systemd). What it does stands in
FOLDER/supervisor.log.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from deploy.checkout import REPO
from deploy.outcome import exit_code
from deploy.server import folder, process
from deploy.server.admin import read_key
from deploy.server.healing import Healing
from deploy.server.local import KILL_MARGIN_S, LocalServer
from deploy.server.ports import Ports
from deploy.server.supervisor import Supervisor, serve_readiness
from deploy.server.tls import TlsFiles

logger = logging.getLogger(__name__)

PID_FILE, LOG = "supervisor.pid", "supervisor.log"
MAX_RESTARTS, WITHIN_S = 5, 600.0
"""A server that has to be started so often in so many seconds is broken."""
FAREWELL_S = 5.0


class Supervision:
    """Of the server in a working folder, across its restarts."""

    def __init__(self, log_dir: Path) -> None:
        """`RuntimeError` if no server runs there."""
        self.log_dir = log_dir
        self._restarts_s: list[float] = []
        self._is_told_to_stop = threading.Event()
        self._words = ""
        self._healing = Healing()
        self._take(self._state())

    def run(self) -> int:
        """Until SIGTERM: 0; 1 if the server can't be kept running."""
        address = self._server["address"]
        readiness = serve_readiness(self._ports, self.why_not_ready, self.metrics, address)
        try:
            while True:
                self._supervisor.run()
                if self._is_told_to_stop.is_set():
                    return 0
                if not self._restart():
                    return 1
        finally:
            readiness.shutdown()

    def end_server(self) -> None:
        """End the server, and what it has left."""
        state = self._server
        process.end(state["pid"], state["token"], state["exit_timeout_s"] + KILL_MARGIN_S)
        folder.clear(self.log_dir)

    def stop(self, *_: int | FrameType | None) -> None:
        self._is_told_to_stop.set()
        self._supervisor.stop()

    def why_not_ready(self) -> str:
        return self._words or self._supervisor.why_not_ready()

    def metrics(self) -> str:
        """For Prometheus."""
        return self._supervisor.metrics(self.why_not_ready())

    def _state(self) -> dict[str, Any]:
        state = folder.running_server(self.log_dir)
        if state is None:
            raise RuntimeError(f"no server runs in {self.log_dir}.\n  Fix: make serve")
        return state

    def _take(self, state: dict[str, Any]) -> None:
        self._server = state
        self._ports = Ports(**state["ports"])
        key = read_key(self.log_dir)
        found = Path(state["repository"]).glob("*/*/model.py")
        self._supervisor = Supervisor(
            state["pid"],
            state["token"],
            self._ports,
            key,
            frozenset(path.parents[1].name for path in found),
            self._healing,
        )

    def _restart(self) -> bool:
        """End what is left of the server and start it anew; whether that went well."""
        now_s, old = time.monotonic(), self._server
        home = old["home"] and Path(old["home"])
        self._restarts_s = [s for s in self._restarts_s if now_s - s < WITHIN_S] + [now_s]
        if len(self._restarts_s) > MAX_RESTARTS:
            logger.error("the server ended %d times in %g s", len(self._restarts_s), WITHIN_S)
            return False
        self._words = "the server is being started anew"
        logger.warning(self._words)
        self.end_server()
        try:
            LocalServer(
                Path(old["repository"]),
                log_dir=self.log_dir,
                ports=self._ports,
                config=old["config"],
                trace_url=old["trace_url"],
                address=old["address"],
                home=home,
                start_timeout_s=old["start_timeout_s"],
                exit_timeout_s=old["exit_timeout_s"],
                outlives_us=True,
                grpc_address=old["grpc_address"],
                tls=TlsFiles.given(**old["tls"]) if old["tls"] else None,
            ).start().let_go()  # or we could not start the next one there
            self._take(self._state())
        except RuntimeError as error:
            logger.error("it can't be started: %s", error)
            return False
        self._words = ""
        self._healing.restarted()
        logger.warning("it is ready after %.1f s", time.monotonic() - now_s)
        return True


def become(log_dir: Path) -> NoReturn:
    """Turn this process into the supervision that owns the server there. The server's log goes to
    our stdout, too."""
    (log_dir / PID_FILE).write_text(f"{os.getpid()}\n")
    log = str(log_dir / "server.log")
    subprocess.Popen(
        ["tail", f"--pid={os.getpid()}", "--lines=+1", "--follow=name", "--retry", log]
    )
    os.chdir(REPO)
    os.execv(sys.executable, [sys.executable, "-m", __name__, str(log_dir), "--owns"])


def begin(log_dir: Path) -> None:
    """Start a supervision of the server there, which outlives us."""
    with (log_dir / LOG).open("ab") as said:
        started = subprocess.Popen(
            [sys.executable, "-m", __name__, str(log_dir)],
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    (log_dir / PID_FILE).write_text(f"{started.pid}\n")  # now, for who ends it at once


def is_there(log_dir: Path) -> bool:
    """Whether a supervision of the server there runs."""
    try:
        return process.is_alive(int((log_dir / PID_FILE).read_text()), __name__)
    except (OSError, ValueError):
        return False


def end(log_dir: Path) -> None:
    """End the supervision of the server there, if there is one."""
    path = log_dir / PID_FILE
    try:
        pid = int(path.read_text())
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + FAREWELL_S
    process.send_signal(pid, __name__, signal.SIGTERM)
    while process.is_alive(pid, __name__) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(pid, __name__, signal.SIGKILL)
    path.unlink(missing_ok=True)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    log_dir = Path(sys.argv[1])
    supervision = Supervision(log_dir)
    (log_dir / PID_FILE).write_text(f"{os.getpid()}\n")  # also if somebody started it by hand
    signal.signal(signal.SIGTERM, supervision.stop)
    logger.info("supervising, process %d", os.getpid())
    code = supervision.run()
    if sys.argv[2:] == ["--owns"]:
        supervision.end_server()
    return code


if __name__ == "__main__":
    sys.exit(exit_code(main))
