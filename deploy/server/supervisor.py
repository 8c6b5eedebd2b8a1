"""Watches the processes of a server's models, brings back what dies or stands still, and tells
the truth about it: Triton itself says "ready" of a model whose process is dead.

A process that stood still and goes on would abort the whole server with the next call, if Triton
had called it unhealthy in between, which it does after one second. So it is ended before that.
"""

import json
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deploy.server import process
from deploy.server.healing import Healing
from deploy.server.health import is_full, metrics_page, reload_model, state_of, what_is_missing
from deploy.server.heartbeats import Heartbeats
from deploy.server.ports import ADDRESS, Ports

logger = logging.getLogger(__name__)

POLL_S = 0.1
STANDSTILL_S = 0.25
"""So long may a process be stopped: with two looks, `/ready` is red within 0.5 s. At 1 s Triton
gives it up."""
READ_S = 1.0  # how often the metrics are read
SCAN_S = 0.5  # how often new processes are looked for
TRIES = 3  # to load a model whose process died
STUCK_S = 10.0
"""A model that is being loaded has a process. Where it died meanwhile, Triton waits for ever."""
SPARE, STAGES = "dit_spare", ("dit_stage_", "dit_spare")
"""What stands in for a stage that died, and how the names of all that it may be begin."""
CATCH_UP_S = 1.5
"""So long a model that is stood in for waits for its reload, which takes the processors that its
sessions want just then."""
MAX_RELOADS = 10
"""Each leaves threads and a region of memory in the server; then it is started anew."""


@dataclass(slots=True, eq=False)
class Stub:
    """A model's process."""

    model: str
    pid: int
    fd: int  # of the process: readable once it is dead
    stopped_s: float | None = None  # since when it stands still


@dataclass(eq=False)
class Supervisor:
    """Watches one server until it ends or has to be started anew."""

    pid: int
    token: str
    ports: Ports
    key: str = field(repr=False)  # of `deploy.server.admin`
    models: frozenset[str] = frozenset()  # which must have a process from the beginning
    healing: Healing = field(default_factory=Healing)
    num_reloads: int = 0
    troubles: dict[str, str] = field(default_factory=dict)
    """Model -> what is wrong with it."""

    def __post_init__(self) -> None:
        self._stubs: dict[int, Stub] = {}  # by the file descriptor of the process
        self._models = set(self.models)  # which had a process when it was last looked
        self._reviving: dict[str, float] = {}  # models being loaded anew: when a process was seen
        self._poll = select.poll()
        self._lock = threading.Lock()  # guards `troubles` and `num_reloads`
        self._stopping = threading.Event()
        self._heartbeats = Heartbeats()
        self._reading: Future[dict[str, str]] | None = None
        self._pool = ThreadPoolExecutor(5, thread_name_prefix="supervisor")

    def run(self) -> None:
        """Until the server ends, `stop` is called, or models were reloaded too often."""
        next_scan_s = 0.0
        try:
            while not self._stopping.is_set() and process.is_alive(self.pid, self.token):
                if time.monotonic() >= next_scan_s:
                    self._scan()
                    next_scan_s = time.monotonic() + SCAN_S
                for fd, _ in self._poll.poll(1e3 * POLL_S):
                    self._bury(self._stubs[fd])
                self._end_standing()
                self._end_silent()
                if self.num_reloads > MAX_RELOADS:
                    logger.warning("models were reloaded %d times", self.num_reloads)
                    return
                if self._is_stuck():
                    logger.warning("%s died while being loaded", ", ".join(self._reviving))
                    return
        finally:
            self._stopping.set()
            self._pool.shutdown(wait=False, cancel_futures=True)
            for stub in self._stubs.values():
                os.close(stub.fd)
            self._stubs.clear()

    def stop(self) -> None:
        """Let `run` return; may be called from any thread."""
        self._stopping.set()

    def why_not_ready(self) -> str:
        """Empty if a session would be served now."""
        with self._lock:
            troubles = [f"{model}: {words}" for model, words in self.troubles.items()]
        if troubles:
            return "; ".join(troubles)
        if not process.is_alive(self.pid, self.token):
            return "the server has ended"
        return what_is_missing(self.ports, self.key)

    def metrics(self, why_not_ready: str) -> str:
        """For Prometheus. A model is up if it has a process and nothing is wrong with it."""
        with self._lock:
            models = {stub.model: True for stub in list(self._stubs.values())}
            models |= dict.fromkeys(self.troubles, False)
        return self.healing.exposed(models, why_not_ready)

    def _scan(self) -> None:
        """Watch processes that came since; one may have come and gone in between."""
        watched = {stub.pid for stub in self._stubs.values()}
        missing = self._models - {stub.model for stub in self._stubs.values()}
        for pid in process.stub_pids(self.token, self.pid):
            model = process.stub_model(pid)
            if pid in watched or not model:  # the shell that is to become it has no model yet
                continue
            with suppress(ProcessLookupError):
                stub = Stub(model, pid, os.pidfd_open(pid))
                self._stubs[stub.fd] = stub
                self._models.add(stub.model)
                self._poll.register(stub.fd, select.POLLIN)
        for model in missing - {stub.model for stub in self._stubs.values()}:
            self._miss(model)

    def _is_stuck(self) -> bool:
        """Whether models are being loaded anew, one after the other, and none has a process."""
        alive, now_s = {stub.model for stub in self._stubs.values()}, time.monotonic()
        with self._lock:
            if not alive.isdisjoint(self._reviving):
                self._reviving = dict.fromkeys(self._reviving, now_s)
            return any(now_s - seen_s > STUCK_S for seen_s in self._reviving.values())

    def _end_standing(self) -> None:
        """Kill who stands still, before it goes on."""
        now_s = time.monotonic()
        for stub in self._stubs.values():
            if not process.is_stopped(stub.pid):
                stub.stopped_s = None
            elif stub.stopped_s is None:
                stub.stopped_s = now_s
            elif now_s - stub.stopped_s >= STANDSTILL_S:
                logger.warning("%s stands still and is ended (process %d)", stub.model, stub.pid)
                signal.pidfd_send_signal(stub.fd, signal.SIGKILL)

    def _end_silent(self) -> None:
        """Kill who is there and does not answer. The page is read beside this thread: a server that
        is slow to show it must not hide one that stands still."""
        if self._reading is None:
            self._reading = self._pool.submit(self._read_silent)
        if not self._reading.done():
            return
        silent, self._reading = self._reading.result(), None
        for stub in self._stubs.values():
            if stub.model in silent and stub.model not in self.troubles:
                words = silent[stub.model]
                logger.warning("%s %s and is ended (process %d)", stub.model, words, stub.pid)
                signal.pidfd_send_signal(stub.fd, signal.SIGKILL)

    def _read_silent(self) -> dict[str, str]:
        self._stopping.wait(READ_S)
        return self._heartbeats.silent(metrics_page(self.ports), time.monotonic())

    def _bury(self, stub: Stub) -> None:
        """A process has ended."""
        self._poll.unregister(stub.fd)
        del self._stubs[stub.fd]
        os.close(stub.fd)
        if stub.model not in {other.model for other in self._stubs.values()}:
            self._miss(stub.model)

    def _miss(self, model: str) -> None:
        """A model has no process: have it loaded anew, unless somebody unloaded it."""
        with self._lock:
            if model in self.troubles:  # it is being loaded anew
                return
            self.troubles[model] = "its process died; it is loaded anew"
            self._reviving[model] = time.monotonic()
        self._pool.submit(self._revive, model)

    def _revive(self, model: str) -> None:
        began_s, is_back = time.monotonic(), False
        was_unloaded = state_of(self.ports, model, self.key) not in ("READY", None)
        if not was_unloaded:
            logger.warning("the process of %s died", model)
            while self._is_stood_in_for(model) and time.monotonic() - began_s < CATCH_UP_S:
                self._stopping.wait(POLL_S)
            for _ in range(TRIES):
                if self._stopping.is_set():
                    return  # the server that comes next is another one's
                if is_back := reload_model(self.ports, model, self.key):
                    break
        self._heartbeats.forget(model)
        with self._lock:
            del self._reviving[model]
            if is_back:
                self._models.add(model)  # it may be dead again before it was seen
            else:
                self._models.discard(model)
            self.num_reloads += not was_unloaded
            if not was_unloaded:
                self.healing.reloaded(model)
            if is_back or was_unloaded:
                del self.troubles[model]
            else:
                self.troubles[model] = "its process died, and it can't be loaded"
        if not was_unloaded:
            words = "is back" if is_back else "can't be loaded"
            logger.warning("%s %s after %.1f s", model, words, time.monotonic() - began_s)

    def _is_stood_in_for(self, model: str) -> bool:
        """Whether it is the only one away of the stages and who stands in for them."""
        with self._lock:
            stages = {name for name in self._models | {model} if name.startswith(STAGES)}
            return {SPARE, model} <= stages and stages & self.troubles.keys() == {model}


def serve_readiness(
    ports: Ports,
    why_not_ready: Callable[[], str],
    metrics: Callable[[], str],
    address: str = ADDRESS,
) -> ThreadingHTTPServer:
    """Answer GET from a thread until `shutdown`.

    /ready: 200, or 503 with the reason. A server whose places are all taken is ready, and tells
    Envoy that it is degraded, so that new sessions go elsewhere. /alive: 200 as long as somebody
    looks after the server. /metrics: the supervisor's own.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/ready":
                words = why_not_ready()
                body = json.dumps({"ready": not words, "why": words})
                is_degraded = not words and is_full(ports)
                self.answer(503 if words else 200, "application/json", body, is_degraded)
            elif self.path == "/alive":
                self.answer(200, "text/plain", "alive")
            elif self.path == "/metrics":
                self.answer(200, "text/plain; version=0.0.4", metrics())
            else:
                self.send_error(404)

        def answer(self, status: int, kind: str, text: str, is_degraded: bool = False) -> None:
            body = text.encode()
            self.send_response(status)
            if is_degraded:
                self.send_header("x-envoy-degraded", "true")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """A probe each second is no news."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *request: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a probe that hangs up is no news
                super().handle_error(*request)

    server = Server((address, ports.ready), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="readiness", daemon=True).start()
    return server
