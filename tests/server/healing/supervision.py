"""A server under a supervisor, whose models' processes die."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.server import process
from deploy.server.local import LocalServer
from deploy.server.supervisor import Supervisor


@contextmanager
def supervised(server: LocalServer) -> Iterator[Supervisor]:
    supervisor = Supervisor(server.pid, server.token, server.ports, server.admin_key)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    time.sleep(0.2)
    try:
        yield supervisor
    finally:
        supervisor.stop()
        thread.join()


def pid_of(server: LocalServer, model: str) -> int:
    (pid,) = [pid for pid in server.stub_pids() if process.stub_model(pid) == model]
    return pid


def until(supervisor: Supervisor, ready: bool, limit_s: float) -> float:
    """Seconds until the supervisor says so."""
    began = time.monotonic()
    while bool(supervisor.why_not_ready()) is ready:
        assert time.monotonic() - began < limit_s, supervisor.why_not_ready()
        time.sleep(0.01)
    return time.monotonic() - began
