"""Stations: a model with its queue and the threads that wait for it. While one block is worked on,
the next is already queued there, so a model hardly idles between two blocks."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pipeline.engines.base import Array
from pipeline.sessions.occupancy import Occupancy
from pipeline.sessions.session import ServedSession
from pipeline.sessions.tracing import Pass
from pipeline.sessions.words import words_of

LANES = 2
"""Blocks at a station: one that it works on, one queued ahead."""


@dataclass(slots=True, kw_only=True)
class Work:
    """A block, or a tick, on its way through the stations."""

    session: Any
    block: int
    latent: Array | None = None  # [1, C, F, h, w], after the last station that changed it
    frames: Array | None = None  # uint8 RGB [T, H, W, 3], once it is decoded
    passes: list[Pass] = field(default_factory=list)
    """When each station worked on it, its queue left out."""

    @property
    def times_ms(self) -> list[float]:
        """What each station took."""
        return [1e3 * (one.ended_s - one.began_s) for one in self.passes]

    @property
    def place(self) -> int:
        """In which order a session's works pass a station: 0, 1, 2, …"""
        return self.block


W = TypeVar("W", bound=Work)


class Station(Generic[W]):
    """A model's queue and its lanes; `put` may be called from any thread. A session's blocks stand
    in order, whoever brought them first: were one of the lanes before held up with block n while
    the other goes on, blocks n + 1 and n + 2 would occupy both lanes here and wait for a block n
    that no lane is left to take."""

    def __init__(
        self,
        name: str,
        run: Callable[[W], None],
        dropped: Callable[[W, str | None], None],
        *,
        lanes: int = LANES,
        in_order: bool = True,
    ) -> None:
        """`run` has the model work and hands the result on. `dropped` hears of work that ends here:
        its session is closing (None), or `run` failed (why). Both run on a lane's thread.
        `in_order` is for a station that lanes bring work to."""
        self.name = name
        self.work_time = Occupancy()
        self._run, self._dropped, self._in_order = run, dropped, in_order
        self._queue: queue.SimpleQueue[W | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards the two below
        self._next: dict[ServedSession, int] = {}
        self._early: dict[ServedSession, dict[int, W]] = {}
        self._threads = [spawn(f"{name} lane {lane}", self._lane) for lane in range(lanes)]

    def put(self, work: W) -> None:
        """Queue work behind its predecessors; a closing session's has none to wait for."""
        with self._lock:
            if not self._in_order or work.session.phase.is_closing:
                self._queue.put(work)
                return
            early = self._early.setdefault(work.session, {})
            early[work.place] = work
            while (turn := early.pop(self._next.get(work.session, 0), None)) is not None:
                self._next[work.session] = turn.place + 1
                self._queue.put(turn)

    @property
    def num_waiting(self) -> int:
        """Pieces of work that no lane has taken yet."""
        with self._lock:
            return self._queue.qsize() + sum(map(len, self._early.values()))

    def forget(self, session: ServedSession) -> None:
        """Drop what is known of a closed session."""
        with self._lock:
            self._next.pop(session, None)
            self._early.pop(session, None)

    def end(self) -> None:
        """Let the threads go home after what they are doing."""
        self._queue.put(None)

    def join(self) -> None:
        """Wait for the threads, after `end`."""
        for thread in self._threads:
            thread.join()

    def _lane(self) -> None:
        while (work := self._queue.get()) is not None:
            failure = None
            if not work.session.phase.is_closing:
                self.work_time.enter()
                try:
                    self._run(work)
                    continue
                except Exception as error:
                    failure = words_of(error)
                finally:
                    self.work_time.leave()
            self._dropped(work, failure)
        self._queue.put(None)  # for the other lane


def spawn(name: str, target: Callable[[], None]) -> threading.Thread:
    """A thread that does not keep the process alive, started."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
