"""The timestep-forcing pipeline: every stage busy with another block, sessions taking turns.

    tick n      stage 0: block n   stage 1: block n-1   …   decoder: block n-4

The audio models have a station of their own: one block is heard at a time, ahead of stage 0.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pipeline.avatar.executor import AvatarExecutor
from pipeline.avatar.relief import Relief
from pipeline.avatar.request import AvatarRequest
from pipeline.avatar.session import AvatarSession, BlockInput, GivenFeatures
from pipeline.avatar.work import BlockWork, PoseWork, SoundWork
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Array
from pipeline.sessions.drift import Appearance, Distances, Drift
from pipeline.sessions.orchestrator import Orchestrator
from pipeline.sessions.session import BlockFrames
from pipeline.sessions.stations import Station
from pipeline.sessions.tracing import Pass

logger = logging.getLogger(__name__)

LEAST_STEPS = 3
"""Of a server that may leave one out."""


class AvatarOrchestrator(Orchestrator[AvatarSession, BlockWork]):
    """The orchestrator of `live_avatar`; `submit` may be called from any thread."""

    name = "live_avatar"
    executor: AvatarExecutor

    def __init__(
        self,
        config: PipelineConfig,
        executor: AvatarExecutor,
        *,
        drift_limits: Distances | None = None,
        reanchor: bool = False,
        degrade: bool = False,
        blocks_at_once: int = 0,
        **limits: Any,
    ) -> None:
        """`limits` are those of `Control`. Sessions are watched if there are `drift_limits`; with
        `reanchor` one that goes beyond them begins its rings anew. With `degrade` live sessions
        lose their last step while blocks come late; ValueError if the others are too few. Where
        all models want the same cores, not more than `blocks_at_once` are under way; 0 is no limit.
        """
        if degrade and config.num_steps < LEAST_STEPS:
            raise ValueError(
                f"degrade is yes with {config.num_steps} denoising steps, wanted {LEAST_STEPS} or "
                "more: the last one changes little only behind others"
            )
        super().__init__(executor, **limits)
        self.blocks_at_once = blocks_at_once
        self.config = config
        self.drift_limits, self.reanchor = drift_limits, reanchor
        self.relief = Relief() if degrade else None
        self._encoding = False
        self._last_stage = executor.num_stages - 1
        self._audio = Station(
            "audio", self._encode, partial(self.post, self._on_sound), lanes=1, in_order=False
        )
        self._pose = self._pose_station() if executor.takes_pose else None
        self._posing = False
        for stage in range(executor.num_stages):
            self.add_station(f"stage {stage}", partial(self._step, stage))
        self.add_station("decoder", self._decode)
        self.run()

    @property
    def stations(self) -> Sequence[Station[Any]]:
        before = [self._audio] if self._pose is None else [self._audio, self._pose]
        return [*before, *super().stations]

    def _pose_station(self) -> Station[PoseWork]:
        heard = partial(self.post, self._on_pose)
        return Station("pose", self._encode_pose, heard, lanes=1, in_order=False)

    def new_session(self, request: AvatarRequest, now: float) -> AvatarSession:
        if request.options.rebind and self.executor.num_stages < self.config.num_steps:
            raise ValueError(
                "option rebind is true, but here the first denoising step shares its stage with "
                "others; serve with a stage for each (make serve LIVE=1)"
            )
        drift = None if self.drift_limits is None else Drift(self.drift_limits)
        return AvatarSession(
            request=request,
            config=self.config,
            last_seen=now,
            drift=drift,
            takes_pose=self.executor.takes_pose,
        )

    # The stations' threads

    def _encode(self, work: SoundWork) -> None:
        began = time.perf_counter()
        if isinstance(work.sound, GivenFeatures):
            features, num_frames = work.sound.audio_features, work.sound.num_frames
        else:
            heard = [self.executor.encode_audio(window) for window in work.sound]
            features = heard[0] if len(heard) == 1 else np.concatenate(heard)
            num_frames = work.sound[0].num_frames
        tokens = self.executor.audio_tokens(features)
        now = time.perf_counter()
        work.heard = BlockInput(
            num_frames=num_frames,
            generation=work.generation,
            audio_tokens=tokens,
            audio_ms=1e3 * (now - began),
            ready_at=now,
        )
        self.post(self._on_sound, work, None)

    def _encode_pose(self, work: PoseWork) -> None:
        fit = work.session.request.options.picture_fit
        place = work.session.id, work.tick, work.block
        work.latent = np.array(self.executor.encode_pose(*place, work.given, fit))
        self.post(self._on_pose, work, None)

    def _step(self, stage: int, work: BlockWork) -> bool:
        work.is_dropped = work.is_dropped or work.tick in work.session.superseded
        kept = None if stage else self._first_step(work)
        work.latent = work.latent if kept is None else kept
        tensors: dict[str, Any] = {}
        if not work.is_dropped and kept is None:
            tensors |= {"latent": work.latent, **work.input.audio_tokens}
            tensors["sink_distance"] = work.sink_distance
            tensors |= {} if work.pose is None else {"pose": work.pose}
        if stage == 0 and work.prompt is not None:
            work.text = self.executor.text(work.prompt)
        if work.text is not None:
            tensors["text"] = work.text
        if work.sink is not None:
            tensors["sink"] = work.sink
        elif work.reference is not None:
            tensors["reference"] = work.reference
        if work.ring_start is not None:
            tensors["ring_start"] = work.ring_start
        is_new = work.block == 0 or work.reference is not None or work.text is not None
        gives_sink = self.executor.sends_sink and stage == 0 and is_new
        place = stage, work.session.id, work.tick, work.block
        latent, sink = self.executor.step(*place, gives_sink, **tensors)
        work.latent = work.latent if latent is None else latent
        work.sink = sink if gives_sink else work.sink
        if stage == 0 and latent is not None and work.session.request.options.rebind:
            work.session.first_step = work.block, latent.copy()
        return True

    def _first_step(self, work: BlockWork) -> Array | None:
        """What the first step made of a block that keeps it, now that it is made again."""
        kept = work.session.first_step
        if kept is None or kept[0] != work.block or work.prompt is not None:
            return None
        return kept[1]

    def _decode(self, work: BlockWork) -> bool:
        if work.is_dropped or work.tick in work.session.superseded:
            work.latent = None
        elif work.session.drift is not None:
            assert work.latent is not None
            work.appearance = Appearance.of(work.latent)
        return self.decode(work)

    # The control thread

    def dispatch(self) -> None:
        self._look_at_load()
        self._encode_next()
        self._pose_next()
        super().dispatch()

    def may_enter(self) -> bool:
        under_way = sum(s.in_flight - len(s.superseded) for s in self.sessions.values())
        return not self.blocks_at_once or under_way < self.blocks_at_once

    def enter(self, session: AvatarSession) -> None:
        super().enter(session)
        self._encode_next()

    def next_work(self, session: AvatarSession) -> BlockWork:
        tick, entry, source = session.next_tick, session.enter(), session.ready.popleft()
        prompt = session.prompts.pop(entry.block, None)
        if prompt is not None and session.drift is not None:
            session.drift.restart(entry.block)
        return BlockWork(
            session=session,
            block=entry.block,
            tick=tick,
            input=source,
            latent=entry.noise,
            sink_distance=entry.sink_distance,
            reference=session.sink_reference(entry.block),
            prompt=prompt,
            passes=[Pass("audio", source.ready_at - 1e-3 * source.audio_ms, source.ready_at)],
            ring_start=self._ring_start(session, entry.block),
            pose=entry.pose,
            wait_ms=1e3 * (time.perf_counter() - source.ready_at),
        )

    def passed(self, work: BlockWork, station: int) -> None:
        if station == self._last_stage and work.block == 0 and not work.is_dropped:
            assert work.latent is not None
            work.session.recalibrated = work.latent[:, :, :1].copy()

    def answer(self, work: BlockWork, frames: Array) -> BlockFrames | None:
        if work.tick in work.session.superseded:
            work.session.superseded.remove(work.tick)
            return None
        self._watch_drift(work)
        self.counts.onsets_s.extend(work.session.onsets.seen(work.block, time.monotonic()))
        assert work.latent is not None
        left_out = work.session.request.options.drop_first_frames if work.block == 0 else 0
        _, *stage_ms, decode_ms = work.times_ms
        total_ms = 1e3 * (time.perf_counter() - work.input.ready_at) + work.input.audio_ms
        return BlockFrames(
            block=work.block,
            frame_index=work.session.frame_index(work.block),
            frames=frames[left_out : work.input.num_frames],
            latent=work.latent,
            generation=work.input.generation,
            timings_ms=np.array(
                [total_ms, work.wait_ms, work.input.audio_ms, decode_ms, *stage_ms], np.float32
            ),
        )

    def _watch_drift(self, work: BlockWork) -> None:
        session, drift = work.session, work.session.drift
        if drift is None or work.appearance is None:
            return
        if drift.see(work.block, work.appearance):
            self.counts.drifts += 1
            logger.warning("session %d has drifted by block %d: %s", session.id, work.block, drift)
        if self.reanchor and drift.asks_for_anchor(session.next_block):
            session.reanchors = True

    def _ring_start(self, session: AvatarSession, block: int) -> Array | None:
        if session.reanchors:
            self.counts.reanchors += 1
            logger.warning("session %d is re-anchored at block %d", session.id, block)
        was, session.is_degraded = session.is_degraded, self.leaves_out_step(session, block)
        self.counts.degrades += session.is_degraded and not was
        return session.take_ring_start(block)

    def leaves_out_step(self, session: AvatarSession, block: int) -> bool:
        """Whether `block`, which enters now, is made with a step less. Block 0 never is: a sink may
        be made from it."""
        return self.relief is not None and self.relief.is_on and session.is_live and block > 0

    def was_late(self, session: AvatarSession) -> None:
        if self.relief is not None and session.is_live and self.relief.late(time.monotonic()):
            logger.warning("session %d waits: live sessions lose a denoising step", session.id)

    def _look_at_load(self) -> None:
        if self.relief is None or not self.relief.is_on:
            return
        num_live = sum(session.is_live for session in self.turns)
        if self.relief.look(time.monotonic(), num_live):
            logger.warning("%d live sessions have all denoising steps again", num_live)

    def end(self) -> None:
        super().end()
        self._audio.end()
        if self._pose is not None:
            self._pose.end()

    def stop(self) -> None:
        super().stop()
        self._audio.join()
        if self._pose is not None:
            self._pose.join()

    def _encode_next(self) -> None:
        """Give the audio models what the next block hears, one at a time."""
        for session in tuple(self.turns):
            if not self._encoding:
                self.guard(session, self._encode_sound_of, session)

    def _encode_sound_of(self, session: AvatarSession) -> None:
        if (sound := session.next_sound()) is None:
            return
        self._encoding = session.encoding = True
        block, generation = session.next_block, session.generation
        work = SoundWork(session=session, block=block, generation=generation, sound=sound)
        self._audio.put(work)

    def _pose_next(self) -> None:
        """Give the encoder the next block's pose, one at a time."""
        if self._pose is None or self._posing:
            return
        for session in self.turns:
            if (found := session.next_pose()) is not None:
                self._posing = True
                block, frames = found
                tick, session.pose.next_tick = session.pose.next_tick, session.pose.next_tick + 1
                self._pose.put(PoseWork(session=session, block=block, tick=tick, given=frames))
                return

    def _on_pose(self, work: PoseWork, failure: str | None) -> None:
        self._posing = False
        work.session.pose.encoded(work.block, work.latent)
        if failure is not None:
            self.fail(work.session, failure)

    def _on_sound(self, work: SoundWork, failure: str | None) -> None:
        self._encoding = work.session.encoding = False
        if work.heard is not None and work.generation == work.session.generation:
            work.session.ready.append(work.heard)
        if failure is not None:
            self.fail(work.session, failure)
