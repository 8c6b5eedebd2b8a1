"""The threads that wait for models, so that the orchestrator's own thread never does.

Two lanes per stage: while one block is worked on, the next is already queued there (spec/triton
4). One thread for the audio models, and a short-lived one for each session's start and end. They
hold no state; what they learn goes to `Control`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from pipeline.avatar.audio import AudioWindow
from pipeline.avatar.request import AvatarRequest
from pipeline.avatar.session import BlockInput, GivenFeatures, Session, Sound
from pipeline.sessions.inbox import Inbox, Work

LANES = 2
"""Blocks at a stage: one that it works on, one queued ahead."""


class Executor(Protocol):
    """Runs the models. Every call blocks and may come from any thread."""

    num_stages: int

    def start(self, request: AvatarRequest) -> None:
        """Condition on image and prompt, open the session at every stage and the decoder."""

    def encode_audio(self, window: AudioWindow) -> np.ndarray:
        """Features [1, L+1, Ca, video frames of a block]."""

    def audio_tokens(self, audio_features: np.ndarray) -> dict[str, np.ndarray]:
        """Features of a block -> audio_local [1, F, tokens + 1, D], audio_global [1, F, D]."""

    def step(self, stage: int, session: int, block: int, **tensors: Any) -> np.ndarray:
        """Denoise; tensors as in `Stage.step`. Returns the latent."""

    def decode(self, session: int, block: int, latent: np.ndarray) -> np.ndarray:
        """Frames uint8 [T, H, W, 3]."""

    def close(self, session: int) -> None:
        """Free the session everywhere; never raises."""


class Control(Protocol):
    """What the lanes report. Called on their threads; must not block."""

    def stepped(self, work: Work, stage: int) -> None:
        """A stage has denoised a block."""

    def decoded(self, work: Work, frames: np.ndarray) -> None: ...

    def dropped(self, work: Work, stage: int, failure: str | None) -> None:
        """A block ends at `stage`: its session is closing, or the model failed."""

    def encoded(self, session: Session, block: BlockInput | None, failure: str | None) -> None: ...

    def started(self, session: Session, failure: str | None) -> None: ...

    def closed(self, session: Session) -> None: ...


class SessionLanes:
    """What all lanes share: threads that end together, and a short-lived one for each session's
    start and end."""

    _executor: Any
    _control: Any
    _threads: list[threading.Thread]

    def start(self, session: Any) -> None:
        """Condition a session and open it everywhere."""
        spawn(f"start {session.id}", partial(self._start, session))

    def close(self, session: Any) -> None:
        """Free a session everywhere."""
        spawn(f"close {session.id}", partial(self._close, session))

    def join(self) -> None:
        """Wait for the threads, after `end`."""
        for thread in self._threads:
            thread.join()

    def _start(self, session: Any) -> None:
        failure = None
        try:
            self._executor.start(session.request)
        except Exception as error:
            failure = str(error)
        self._control.started(session, failure)

    def _close(self, session: Any) -> None:
        try:
            self._executor.close(session.id)
        finally:
            self._control.closed(session)


class Lanes(SessionLanes):
    """Threads around an executor; the methods queue work and return at once."""

    _executor: Executor
    _control: Control

    def __init__(self, executor: Executor, control: Control) -> None:
        self._executor = executor
        self._control = control
        self._decoder = executor.num_stages
        self._inboxes: list[Inbox[Work]] = [Inbox() for _ in range(executor.num_stages + 1)]
        self._sounds: queue.SimpleQueue[tuple[Session, Sound] | None] = queue.SimpleQueue()
        self._threads = [spawn("audio", self._encode_sounds)]
        self._threads += [
            spawn(f"stage {stage} lane {lane}", partial(self._lane, stage))
            for stage in range(executor.num_stages + 1)
            for lane in range(LANES)
        ]

    def enter(self, work: Work) -> None:
        """Send a block through the stages."""
        self._inboxes[0].put(work)

    def encode(self, session: Session, sound: Sound) -> None:
        """Turn what a block hears into its audio tokens."""
        self._sounds.put((session, sound))

    def forget(self, session: Session) -> None:
        """Drop what is known of a closed session's blocks."""
        for inbox in self._inboxes:
            inbox.forget(session)

    def end(self) -> None:
        """Let the threads go home after what they are doing."""
        for inbox in self._inboxes:
            inbox.end()
        self._sounds.put(None)

    def _lane(self, stage: int) -> None:
        inbox = self._inboxes[stage]
        run = self._decode if stage == self._decoder else partial(self._step, stage)
        while (work := inbox.get()) is not None:
            if work.session.closing:
                self._control.dropped(work, stage, None)
                continue
            try:
                run(work)
            except Exception as error:
                self._control.dropped(work, stage, str(error))
        inbox.end()  # for the other lane

    def _step(self, stage: int, work: Work) -> None:
        began = time.perf_counter()
        tensors: dict[str, Any] = {
            "latent": work.latent,
            **work.input.audio_tokens,
            "sink_distance": work.sink_distance,
        }
        if work.reference is not None:
            tensors["reference"] = work.reference
        work.latent = self._executor.step(stage, work.session.id, work.block, **tensors)
        work.stage_ms.append(1e3 * (time.perf_counter() - began))
        self._inboxes[stage + 1].put(work)
        self._control.stepped(work, stage)

    def _decode(self, work: Work) -> None:
        began = time.perf_counter()
        frames = self._executor.decode(work.session.id, work.block, work.latent)
        work.stage_ms.append(1e3 * (time.perf_counter() - began))
        self._control.decoded(work, frames)

    def _encode_sounds(self) -> None:
        while (item := self._sounds.get()) is not None:
            session, sound = item
            began = time.perf_counter()
            try:
                if isinstance(sound, GivenFeatures):
                    features = sound.audio_features
                else:
                    features = self._executor.encode_audio(sound)
                tokens = self._executor.audio_tokens(features)
            except Exception as error:
                self._control.encoded(session, None, str(error))
                continue
            now = time.perf_counter()
            block = BlockInput(
                num_frames=sound.num_frames,
                audio_tokens=tokens,
                audio_ms=1e3 * (now - began),
                ready_at=now,
            )
            self._control.encoded(session, block, None)


def spawn(name: str, target: Callable[[], None]) -> threading.Thread:
    """A thread that does not keep the process alive, started."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
