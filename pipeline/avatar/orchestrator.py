"""The timestep-forcing pipeline: every stage busy with another block, sessions taking turns.

    tick n      stage 0: block n   stage 1: block n-1   …   decoder: block n-4

What is decided here is decided on the control thread of `pipeline.sessions.orchestrator`; the
threads of `pipeline.avatar.lanes` wait for the models. (design: orchestration)
"""

from __future__ import annotations

import time

import numpy as np

from pipeline.avatar.lanes import LANES, Executor, Lanes
from pipeline.avatar.request import AvatarRequest
from pipeline.avatar.session import BlockInput, Session
from pipeline.config.avatar import PipelineConfig
from pipeline.sessions.inbox import Work
from pipeline.sessions.orchestrator import Orchestrator
from pipeline.sessions.session import BlockFrames


class LiveAvatar(Orchestrator[Session]):
    """The orchestrator of `live_avatar`; `submit` may be called from any thread."""

    name = "live_avatar"

    def __init__(
        self,
        config: PipelineConfig,
        executor: Executor,
        *,
        max_sessions: int,
        idle_timeout_s: float,
    ) -> None:
        super().__init__(max_sessions=max_sessions, idle_timeout_s=idle_timeout_s)
        self.config = config
        self.executor = executor
        self._at_stage_0 = 0
        self._encoding = False
        self._last_stage = executor.num_stages - 1
        self.lanes = self._lanes = Lanes(executor, self)
        self.run()

    def new_session(self, request: AvatarRequest, now: float) -> Session:
        return Session(request, self.config, last_seen=now)

    def close_now(self, session: Session) -> None:
        self.executor.close(session.id)

    # What the lanes report, on their threads

    def stepped(self, work: Work, stage: int) -> None:
        if stage in (0, self._last_stage):
            self.post(self._on_step, work, stage)

    def decoded(self, work: Work, frames: np.ndarray) -> None:
        self.post(self._on_frames, work, frames)

    def dropped(self, work: Work, stage: int, failure: str | None) -> None:
        self.post(self._on_dropped, work, stage, failure)

    def encoded(self, session: Session, block: BlockInput | None, failure: str | None) -> None:
        self.post(self._on_audio, session, block, failure)

    # The control thread

    def _on_audio(self, session: Session, block: BlockInput | None, failure: str | None) -> None:
        self._encoding = session.encoding = False
        if block is not None:
            session.ready.append(block)
        if failure is not None:
            self.fail(session, failure)

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
            self.fail(work.session, failure)

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
        self.deliver(session, done)

    def dispatch(self) -> None:
        """Hand out what can be worked on; sessions take turns, block by block."""
        if not self._encoding:
            self._encode_next()
        num_places = LANES * (self.executor.num_stages + 1)
        while self._at_stage_0 < LANES and (session := self.next_session(num_places)) is not None:
            self.guard(session, self._enter, session)
            if not self._encoding:
                self._encode_next()

    def _encode_next(self) -> None:
        for session in self.turns:
            if (sound := session.next_sound()) is not None:
                self._encoding = session.encoding = True
                self._lanes.encode(session, sound)
                return

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
