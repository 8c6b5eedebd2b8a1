"""The control thread of a public model: which sessions are admitted, answered and freed. One thread
owns all state and reads events from a queue; it decides with integers and never waits for a model.
What the sessions compute stands in `pipeline.sessions.orchestrator`."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from pipeline.sessions.calls import Executor
from pipeline.sessions.counts import Counts
from pipeline.sessions.endings import Endings, ended
from pipeline.sessions.events import Events
from pipeline.sessions.session import BlockFrames, OpenRequest, Phase, Reply, ServedSession
from pipeline.sessions.stations import spawn
from pipeline.sessions.words import words_of

logger = logging.getLogger(__name__)

TICK_S = 0.05
"""How often it is looked whether clients are still there."""
UNREAD_S = 60.0
"""A client that says what it reads, and has read nothing for so long, is no viewer."""
SHUTTING_DOWN = "the server is shutting down"
S = TypeVar("S", bound=ServedSession)


class Control(ABC, Generic[S]):
    """`submit`, `refuse` and `fail_all` may be called from any thread."""

    name: str  # of the public model

    def __init__(
        self,
        executor: Executor,
        *,
        max_sessions: int,
        idle_timeout_s: float,
        unread_blocks: int = 64,
    ) -> None:
        self.max_sessions = max_sessions
        self.idle_timeout_s = idle_timeout_s
        self.unread_blocks = unread_blocks
        self.sessions: dict[int, S] = {}
        self.endings = Endings()
        self.counts = Counts()
        self.turns: deque[S] = deque()
        self.executor = executor
        self._events = Events()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._control, name="control", daemon=True)

    def run(self) -> None:
        """Start the control thread, once a subclass is complete."""
        self._thread.start()

    @abstractmethod
    def new_session(self, request: Any, now: float) -> S:
        """The session that a START opens, seen at `now`."""

    @abstractmethod
    def dispatch(self) -> None:
        """Hand out what can be worked on; sessions take turns."""

    @abstractmethod
    def forget(self, session: S) -> None:
        """Drop what the stations know of a closed session."""

    @abstractmethod
    def end(self) -> None:
        """Let the stations' threads go home."""

    def was_late(self, session: S) -> None:
        """A viewer had to wait for a block of the session; a subclass may do something about it."""

    def submit(self, request: Any, reply: Reply) -> None:
        """Take a request; `reply` gets its blocks and its end."""
        self._events.put(partial(self._on_request, request, reply), request.session)

    def refuse(self, session: int, message: str, reply: Reply, *, start: bool, end: bool) -> None:
        """Answer a request that can't be read. What follows a refused START hears why."""
        refused = partial(self._on_refused, session, message, reply, start, end)
        self._events.put(refused, session)

    def fail_all(self, message: str) -> None:
        """End every session with an error; new ones may come."""
        self.post(self._on_fail_all, message)

    def stop(self) -> None:
        """End every session with an error, and the threads."""
        self.post(self._on_stop)
        self._thread.join()

    def post(self, event: Callable[..., None], *args: Any) -> None:
        """Have the control thread call `event`, before it takes a client's next request."""
        self._events.put(partial(event, *args))

    # Short-lived threads, which wait for the models

    def _start(self, session: S) -> None:
        failure = None
        try:
            self.executor.start(session.request)
        except Exception as error:
            failure = words_of(error)
        self.post(self._on_started, session, failure)

    def _close(self, session: S) -> None:
        try:
            self.executor.close(session.id)
        finally:
            self.post(self._on_closed, session)

    # The control thread

    def _control(self) -> None:
        next_tick = 0.0
        while self._events or not self._is_stopping:
            if event := self._events.get(TICK_S):
                self.guard(None, event)
            if time.monotonic() >= next_tick:
                self.guard(None, self._reap)
                next_tick = time.monotonic() + TICK_S
            self.guard(None, self.dispatch)

    def guard(self, session: S | None, call: Callable[..., None], *args: Any) -> None:
        """A fault (of the wire, of memory) ends the session that it struck, never this thread."""
        try:
            call(*args)
        except Exception as error:
            whose = self.name if session is None else f"session {session.id}"
            logger.exception("%s: an event failed", whose)
            if session is not None:
                self.fail(session, words_of(error))

    def deliver(self, session: S, done: BlockFrames) -> None:
        """Answer with a block that is ready."""
        if session.first_frame_s is None:
            session.first_frame_s = time.monotonic() - session.started_s
            self.counts.first_frames_s.append(session.first_frame_s)
        self.counts.blocks += 1
        self.counts.frames += len(done.frames)
        self.counts.blocks_s.append(1e-3 * float(done.timings_ms[0]))
        late_before = session.num_late
        self.guard(session, session.deliver, done)
        if session.num_late > late_before:
            self.counts.late += session.num_late - late_before
            self.was_late(session)
        self._free_if_complete(session)

    def fail(self, session: S, message: str, counts_as: str = "failed") -> None:
        """Answer every open request of the session with the error and free it. `counts_as` is a
        field of `Counts`."""
        if session.phase.is_closing:
            return
        level = logging.WARNING if counts_as == "failed" else logging.INFO
        logger.log(level, "session %d %s: %s", session.id, counts_as, message)
        session.failed, session.counts_as = message, counts_as
        if session.phase.is_started:
            self._free(session)
        else:
            session.move(Phase.LEAVING)

    def _on_request(self, request: Any, reply: Reply) -> None:
        present = self.sessions.get(request.session)
        session: S | None = None
        try:
            session = self._admit(request, present) if request.start else self._open(request)
            answer = session.take(request)
            is_held = request.start and not request.end and reply.is_held
        except Exception as error:
            if request.start and session is not None:
                self._forget(session)
            self._on_refused(request.session, words_of(error), reply, request.start, request.end)
            return
        session.last_seen = time.monotonic()
        if request.received is not None:
            session.acknowledged = min(request.received, session.next_delivery)
        if is_held:
            session.held = reply
        else:
            session.requests.append(OpenRequest(reply, session.blocks_known))
        if answer is not None:
            self.counts.interruptions += 1
            self.guard(session, reply.send, answer)
        self.guard(session, session.finish_requests)
        if request.start:
            spawn(f"start {session.id}", partial(self._start, session))
        self._free_if_complete(session)

    def _on_refused(
        self, session_id: int, message: str, reply: Reply, start: bool, end: bool
    ) -> None:
        session = self.sessions.get(session_id)
        self.counts.refused += start
        if start and session is None:
            self.endings.remember(session_id, message)
        elif start and session is not None and not session.phase.takes_input:
            session.refused_start = message  # what is sent behind it comes too late for this one
        if end and not start and session is not None and session.phase.takes_input:
            self.fail(session, message)  # for Triton the sequence is over: no END will come
        self.guard(None, reply.fail, message)

    def _open(self, request: Any) -> S:
        """The session that a later request belongs to; RuntimeError says why it is not open."""
        session = self.sessions.get(request.session)
        if session is None:
            raise RuntimeError(self.endings.of(request.session))
        if not session.phase.takes_input:
            raise RuntimeError(_ending(session))
        return session

    def _admit(self, request: Any, present: S | None) -> S:
        if present is not None:
            raise RuntimeError(f"session {request.session} {_why_taken(present)}")
        if self._is_stopping:
            raise RuntimeError(SHUTTING_DOWN)
        if len(self.sessions) >= self.max_sessions:
            raise RuntimeError(
                f"all {self.max_sessions} sessions of this server are in use; try again later"
            )
        session = self.new_session(request, time.monotonic())
        self.sessions[session.id] = session
        self.turns.append(session)
        self.counts.started += 1
        logger.info("session %d starts", session.id)
        return session

    def _on_started(self, session: S, failure: str | None) -> None:
        if failure is not None:
            self.fail(session, failure, counts_as="refused")
        if session.phase is Phase.LEAVING:
            self._free(session)
            return
        session.start()
        session.forget_conditions()
        session.last_seen = time.monotonic()  # conditioning may take longer than the idle limit
        self.guard(session, session.finish_requests)
        self._free_if_complete(session)

    def _free_if_complete(self, session: S) -> None:
        if session.is_complete():
            self._free(session)

    def _free(self, session: S) -> None:
        session.move(Phase.CLOSING)
        spawn(f"close {session.id}", partial(self._close, session))

    def _forget(self, session: S) -> None:
        del self.sessions[session.id]
        self.turns.remove(session)
        self.forget(session)

    def _on_closed(self, session: S) -> None:
        """The session is free everywhere: only now its last requests become final."""
        if session.id not in self.sessions:  # `stop` has answered them
            return
        self._forget(session)
        self.endings.remember(session.id, _ending(session))
        self.counts.add(session.counts_as)
        for reply in session.take_replies():
            if session.failed is None:
                self.guard(None, reply.finish)
            else:
                self.guard(None, reply.fail, session.failed)
        logger.info("session %d ends after %d blocks", session.id, session.next_delivery)

    def _reap(self) -> None:
        """Free sessions whose client is gone: at once if a request is open, else when idle."""
        for session in list(self.sessions.values()):
            if not session.phase.is_closing:
                self.guard(session, self._reap_session, session)

    def _reap_session(self, session: S) -> None:
        silent_s = time.monotonic() - session.last_seen
        if session.is_abandoned():
            self.fail(session, f"session {session.id}: the client is gone", counts_as="left")
        elif session.is_idle() and silent_s > self.idle_timeout_s:
            idle = f"session {session.id} was idle for {self.idle_timeout_s:g} s and is freed"
            self.fail(session, f"{idle}; open a new one with START", counts_as="left")
        elif (
            silent_s > UNREAD_S
            and session.phase.takes_input
            and session.num_unread >= self.unread_blocks
        ):
            unread = f"{session.num_unread} blocks wait unread for {UNREAD_S:g} s, and it is freed"
            ask = "`received` of a request says how many were read"
            self.fail(session, f"session {session.id}: {unread}; {ask}")

    def has_room(self, session: S) -> bool:
        """Whether one more block may begin. If not, its viewer has enough, and is owed none."""
        if session.has_room(time.monotonic(), self.unread_blocks):
            return True
        session.playback.restart()
        return False

    def _on_fail_all(self, message: str) -> None:
        for session in list(self.sessions.values()):
            self.fail(session, message)

    def _on_stop(self) -> None:
        for session in list(self.sessions.values()):
            for reply in session.take_replies():
                reply.fail(SHUTTING_DOWN)
            self.executor.close(session.id)
        self.sessions.clear()
        self.turns.clear()
        self.end()
        self._is_stopping = True


def _ending(session: ServedSession) -> str:
    """Why it takes no more requests."""
    return session.failed or session.refused_start or ended(session.id)


def _why_taken(session: ServedSession) -> str:
    """Why its id can't be opened again now."""
    if session.phase.takes_input:
        return "is open already; END it first"
    if session.failed is not None:
        return f"is being freed, try again ({session.failed})"
    return "is ending; wait for the final response to its END"
