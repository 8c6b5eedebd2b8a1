"""The processes of the models that hold sessions. A death is known at once here.

Triton answers a call to a dead process after a second, and those queued behind it one after the
other. So a call is given up when its process dies, and no other is sent until the model has been
loaded anew: Triton says that it is loaded before as well.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from pipeline.sessions.calls import ProcessDied
from pipeline.sessions.stations import spawn

logger = logging.getLogger(__name__)
T = TypeVar("T")

MAX_CALLS = 256  # threads, which are begun when they are wanted
LATE_S = 0.1
"""So long an answer may be on its way when its process is dead already."""
RELOAD_S = 3.0
"""So long somebody may take to begin to load a model anew. After that it is asked all the same."""
WATCH_S = 0.5
LOOK_S = 0.02


@dataclass(slots=True, eq=False)
class Process:
    """Of one model, from the moment on when it said its number."""

    pid: int
    died_s: Future[float] = field(default_factory=Future)
    was_unloaded: bool = False  # its model, since then


class Processes:
    """Any thread may call. `is_loaded`: what Triton says of a model."""

    def __init__(self, is_loaded: Callable[[str], bool]) -> None:
        self._is_loaded = is_loaded
        self._lock = threading.Lock()  # guards the one below
        self._newest: dict[str, Process] = {}
        self._pool = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="call")
        self._stopping = threading.Event()

    def seen(self, model: str, pid: int | None) -> None:
        """A model has answered, and said which process it is."""
        with self._lock:
            known = self._newest.get(model)
            if pid is None or (known is not None and known.pid == pid):
                return
            try:
                file = os.pidfd_open(pid)
            except OSError as error:  # dead again, or the system does not let us watch it
                logger.warning("%s: its process %d can't be watched: %s", model, pid, error)
                self._newest.pop(model, None)
                return
            self._newest[model] = process = Process(pid)
        spawn(f"{model} {pid}", partial(self._await_death, model, process, file))

    def call(self, model: str, call: Callable[[], T]) -> T:
        """What `call` of a model gives; ProcessDied as soon as its process is dead."""
        process = self._newest.get(model)
        if process is None:
            return call()
        if process.died_s.done():
            if self._is_back(model, process):
                return call()
            raise ProcessDied(model, "its process is dead")
        answer = self._pool.submit(call)
        first: list[Future[Any]] = [answer, process.died_s]
        wait(first, return_when=FIRST_COMPLETED)
        if not wait((answer,), LATE_S).done:
            raise ProcessDied(model, "its process has died")
        return answer.result()

    def stop(self) -> None:
        """After the last call."""
        self._stopping.set()
        self._pool.shutdown(wait=False)

    def _is_back(self, model: str, process: Process) -> bool:
        dead_s = time.monotonic() - process.died_s.result()
        return self._is_loaded(model) and (process.was_unloaded or dead_s > RELOAD_S)

    def _await_death(self, model: str, process: Process, file: int) -> None:
        deaths = select.poll()
        deaths.register(file, select.POLLIN)
        while not deaths.poll(1e3 * WATCH_S):
            if self._stopping.is_set():
                break
        else:
            process.died_s.set_result(time.monotonic())
        os.close(file)
        if process.died_s.done():
            self._await_unloading(model, process)

    def _await_unloading(self, model: str, process: Process) -> None:
        """A quick reload is over within a few looks."""
        given_up_s = process.died_s.result() + RELOAD_S
        while not process.was_unloaded and time.monotonic() < given_up_s:
            process.was_unloaded = not self._is_loaded(model)
            if self._stopping.wait(LOOK_S):
                return
