"""The timestep-forcing pipeline: every stage busy with another block, sessions taking turns.

    tick n      stage 0: block n   stage 1: block n-1   …   decoder: block n-4

One control thread owns all state and reads events from a queue; it decides with integers and never
waits for a model. That is what the threads of `pipeline.lanes` do. (design: orchestration)
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pipeline.config import PipelineConfig
from pipeline.inbox import Work
from pipeline.lanes import LANES, Executor, Lanes
from pipeline.request import AvatarRequest
from pipeline.session import BlockFrames, BlockInput, OpenRequest, Reply, Session

logger = logging.getLogger(__name__)

_TICK_S = 0.2


class LiveAvatar:
    """The orchestrator of `live_avatar`; `submit` may be called from any thread."""

    def __init__(
        self,
        config: PipelineConfig,
        executor: Executor,
        *,
        max_sessions: int,
        idle_timeout_s: float,
    ) -> None:
        self.config = config
        self.executor = executor
        self.max_sessions = max_sessions
        self.idle_timeout_s = idle_timeout_s
        self.sessions: dict[int, Session] = {}
        self._turns: deque[Session] = deque()
        self._at_stage_0 = 0
        self._encoding = False
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._last_stage = executor.num_stages - 1
        self._lanes = Lanes(executor, self)
        self._thread = threading.Thread(target=self._control, name="control", daemon=True)
        self._thread.start()

    def submit(self, request: AvatarRequest, reply: Reply) -> None:
        """Take a request; `reply` gets its blocks and its end."""
        self._post(self._on_request, request, reply)

    def abort(self, session: int, message: str) -> None:
        """Fail a session from outside: its END came with a request that can't be read."""
        self._post(self._on_abort, session, message)

    def stop(self) -> None:
        """End every session with an error and every thread."""
        self._post(self._on_stop)
        self._thread.join()
        self._lanes.join()

    # What the lanes report, on their threads

    def stepped(self, work: Work, stage: int) -> None:
        if stage in (0, self._last_stage):
            self._post(self._on_step, work, stage)

    def decoded(self, work: Work, frames: np.ndarray) -> None:
        self._post(self._on_frames, work, frames)

    def dropped(self, work: Work, stage: int, failure: str | None) -> None:
        self._post(self._on_dropped, work, stage, failure)

    def encoded(self, session: Session, block: BlockInput | None, failure: str | None) -> None:
        self._post(self._on_audio, session, block, failure)

    def started(self, session: Session, failure: str | None) -> None:
        self._post(self._on_started, session, failure)

    def closed(self, session: Session) -> None:
        self._post(self._on_closed, session)

    def _post(self, event: Callable[..., None], *args: Any) -> None:
        self._events.put(partial(event, *args))

    # The control thread

    def _control(self) -> None:
        next_tick = 0.0
        while True:
            try:
                event = self._events.get(timeout=_TICK_S)
            except queue.Empty:
                event = self._reap
            if event is None:
                return
            self._guard(None, event)
            if time.monotonic() >= next_tick:
                self._guard(None, self._reap)
                next_tick = time.monotonic() + _TICK_S
            self._guard(None, self._dispatch)

    def _guard(self, session: Session | None, call: Callable[..., None], *args: Any) -> None:
        """A fault (of the wire, of memory) ends the session that it struck, never this thread."""
        try:
            call(*args)
        except Exception as error:
            logger.exception("live_avatar: an event failed")
            if session is not None:
                self._fail(session, str(error))

    def _on_request(self, request: AvatarRequest, reply: Reply) -> None:
        session = self.sessions.get(request.session)
        try:
            if request.start:
                session, present = None, session
                session = self._admit(request, present)
            elif session is None or session.closing:
                raise RuntimeError(
                    f"session {request.session} is not open (it ended, failed or was idle for "
                    f"{self.idle_timeout_s:g} s); open it with START"
                )
            session.take(request, time.perf_counter())
        except Exception as error:
            reply.fail(str(error))
            if session is not None and request.start and not session.requests:
                self._forget(session)
            elif session is not None and request.end and not session.ended:
                self._fail(session, str(error))  # for Triton the sequence is over: no END will come
            return
        session.last_seen = time.monotonic()
        session.requests.append(OpenRequest(reply, session.blocks_known))
        self._guard(session, session.finish_requests)
        if request.start:
            self._lanes.start(session)
        self._close_if_complete(session)

    def _on_abort(self, session_id: int, message: str) -> None:
        if (session := self.sessions.get(session_id)) is not None:
            self._fail(session, message)

    def _admit(self, request: AvatarRequest, present: Session | None) -> Session:
        if present is not None:
            state = "being closed; try again" if present.closing else "open already; END it first"
            raise RuntimeError(f"session {request.session} is {state}")
        if len(self.sessions) >= self.max_sessions:
            raise RuntimeError(
                f"all {self.max_sessions} sessions of this server are in use; try again later"
            )
        session = Session(request, self.config, time.monotonic())
        self.sessions[session.id] = session
        self._turns.append(session)
        logger.info("session %d starts", session.id)
        return session

    def _on_started(self, session: Session, failure: str | None) -> None:
        session.starting = False
        if session.closing:  # the client left meanwhile
            self._lanes.close(session)
            return
        if failure is not None:
            self._fail(session, failure)
            return
        session.started = True
        session.forget_conditions()
        session.last_seen = time.monotonic()  # conditioning may take longer than the idle limit
        self._guard(session, session.finish_requests)
        self._close_if_complete(session)

    def _on_audio(self, session: Session, block: BlockInput | None, failure: str | None) -> None:
        self._encoding = session.encoding = False
        if block is not None:
            session.ready.append(block)
        if failure is not None:
            self._fail(session, failure)

    def _on_step(self, work: Work, stage: int) -> None:
        if stage == 0:
            self._at_stage_0 -= 1
        if stage == self._last_stage and work.block == 0:
            work.session.recalibrated = work.latent[:, :, :1].copy()

    def _on_dropped(self, work: Work, stage: int, failure: str | None) -> None:
        work.session.in_flight -= 1
        if stage == 0:
            self._at_stage_0 -= 1
        if failure is not None:
            self._fail(work.session, failure)

    def _on_frames(self, work: Work, frames: np.ndarray) -> None:
        session = work.session
        session.in_flight -= 1
        if session.closing:
            return
        drop = session.request.options.drop_first_frames
        first = work.block * self.config.video_frames_per_block - drop
        *stage_ms, decode_ms = work.stage_ms
        total_ms = 1e3 * (time.perf_counter() - work.input.ready_at) + work.input.audio_ms
        done = BlockFrames(
            block=work.block,
            frame_index=max(0, first),
            frames=frames[max(0, -first) : work.input.num_frames],
            latent=work.latent,
            timings_ms=np.array(
                [total_ms, work.wait_ms, work.input.audio_ms, decode_ms, *stage_ms], np.float32
            ),
        )
        self._guard(session, session.deliver, done)
        session.last_seen = time.monotonic()
        self._close_if_complete(session)

    def _fail(self, session: Session, message: str) -> None:
        """Answer every open request of the session with the error and free it."""
        if session.closing:
            return
        logger.warning("session %d fails: %s", session.id, message)
        session.failed = message
        self._begin_close(session)

    def _close_if_complete(self, session: Session) -> None:
        if session.is_complete() and not session.closing:
            self._begin_close(session)

    def _begin_close(self, session: Session) -> None:
        session.closing = True
        if not session.starting:
            self._lanes.close(session)

    def _forget(self, session: Session) -> None:
        del self.sessions[session.id]
        self._turns.remove(session)
        self._lanes.forget(session)

    def _on_closed(self, session: Session) -> None:
        """The session is free everywhere: only now its last requests become final."""
        self._forget(session)
        for open_request in session.requests:
            if session.failed is None:
                self._guard(None, open_request.reply.finish)
            else:
                self._guard(None, open_request.reply.fail, session.failed)
        logger.info("session %d ends after %d blocks", session.id, session.next_delivery)

    def _reap(self) -> None:
        """Free sessions whose client is gone: at once if a request is open, else when idle."""
        for session in list(self.sessions.values()):
            if not session.closing:
                self._guard(session, self._reap_session, session)

    def _reap_session(self, session: Session) -> None:
        if session.requests:
            # One stands for all: a client that goes takes its whole stream along.
            if session.requests[0].reply.cancelled():
                self._fail(session, f"session {session.id}: the client is gone")
        elif time.monotonic() - session.last_seen > self.idle_timeout_s:
            self._fail(session, f"session {session.id} was idle too long")

    def _dispatch(self) -> None:
        """Hand out what can be worked on; sessions take turns, block by block."""
        if not self._encoding:
            self._encode_next()
        while self._at_stage_0 < LANES and (session := self._next_session()) is not None:
            self._guard(session, self._enter, session)
            if not self._encoding:
                self._encode_next()

    def _encode_next(self) -> None:
        for session in self._turns:
            if (window := session.next_window()) is not None:
                self._encoding = session.encoding = True
                self._lanes.encode(session, window)
                return

    def _next_session(self) -> Session | None:
        """Whose block enters now. Busy sessions share the places in the pipeline, so that one with
        a long backlog does not fill the queue of the slowest stage before another's first block."""
        num_places = LANES * (self.executor.num_stages + 1)
        busy = sum(1 for s in self._turns if s.in_flight or s.ready)
        share = -(-num_places // max(busy, 1))
        for session in self._turns:
            if session.in_flight < share and session.can_dispatch():
                self._turns.remove(session)
                self._turns.append(session)
                return session
        return None

    def _enter(self, session: Session) -> None:
        block, source = session.next_block, session.ready.popleft()
        session.next_block += 1
        work = Work(
            session=session,
            block=block,
            input=source,
            latent=session.noise(block),
            sink_distance=session.sink_distance(block),
            reference=session.sink_reference(block),
            wait_ms=1e3 * (time.perf_counter() - source.ready_at),
        )
        self._at_stage_0 += 1
        session.in_flight += 1
        self._lanes.enter(work)

    def _on_stop(self) -> None:
        for session in list(self.sessions.values()):
            for open_request in session.requests:
                open_request.reply.fail("the server is shutting down")
            self.executor.close(session.id)
        self.sessions.clear()
        self._lanes.end()
        self._events.put(None)
