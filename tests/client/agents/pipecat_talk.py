"""A Pipecat pipeline with a face in it, and what surrounds it there."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from pipecat.frames.frames import (
    Frame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    SpeechOutputAudioRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from live_avatar_client.agents.pipecat import LiveAvatarService
from tests.support.fake_avatar_server import FakeAvatar, serving

RATE = 24_000  # of most speech synthesisers


class Recorder(FrameProcessor):
    """Everything that passes in a direction, with its moment."""

    def __init__(self, direction: FrameDirection) -> None:
        super().__init__()
        self.direction = direction
        self.seen: list[tuple[float, Frame]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction == self.direction:
            self.seen.append((time.monotonic(), frame))
        await self.push_frame(frame, direction)

    def of(self, *kinds: type[Frame]) -> list[Any]:
        return [frame for _, frame in self.seen if isinstance(frame, kinds)]

    def moment(self, kind: type[Frame], number: int = 0) -> float:
        return [at_s for at_s, frame in self.seen if isinstance(frame, kind)][number]


class Loudspeaker(BaseOutputTransport):
    """Plays sound at its own speed, and notes what it shows and when."""

    def __init__(self) -> None:
        params = TransportParams(
            audio_out_enabled=True,
            audio_out_sample_rate=16_000,
            audio_out_end_silence_secs=0,
            video_out_enabled=True,
            video_out_is_live=True,
            video_out_framerate=25,
            video_out_width=6,
            video_out_height=4,
        )
        super().__init__(params)
        self.heard: list[tuple[float, np.ndarray]] = []
        self.shown: list[tuple[float, OutputImageRawFrame]] = []
        self._free_s = 0.0

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        self._free_s = max(self._free_s, time.monotonic())
        self.heard.append((self._free_s, np.frombuffer(frame.audio, np.int16)))
        self._free_s += frame.num_frames / frame.sample_rate
        await asyncio.sleep(self._free_s - time.monotonic())
        return True

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        self.shown.append((time.monotonic(), frame))
        return True


class Talk:
    """A pipeline with a face in it, and what an agent's text-to-speech does to it."""

    def __init__(self, url: str, **arguments: Any) -> None:
        self.face = LiveAvatarService(image=b"png", url=url, **arguments)
        self.pushed = Recorder(FrameDirection.DOWNSTREAM)
        self.told = Recorder(FrameDirection.UPSTREAM)
        self.speaker = Loudspeaker()
        stages = [self.told, self.face, self.pushed, self.speaker]
        self.worker = PipelineWorker(Pipeline(stages), enable_rtvi=False, idle_timeout_secs=None)

    async def say(self, seconds: float) -> None:
        """A sentence as text-to-speech gives it: in pieces, far faster than it is spoken."""
        time_s = np.arange(round(seconds * RATE)) / RATE
        samples = (8000 * np.sin(2 * np.pi * 220 * time_s) + 500).astype(np.int16).tobytes()
        await self.worker.queue_frame(TTSStartedFrame())
        for begin in range(0, len(samples), 4000):
            piece = samples[begin : begin + 4000]
            await self.worker.queue_frame(TTSAudioRawFrame(piece, RATE, 1))
        await self.worker.queue_frame(TTSStoppedFrame())

    @property
    def pairs(self) -> list[tuple[SpeechOutputAudioRawFrame, OutputImageRawFrame]]:
        halves = self.pushed.of(SpeechOutputAudioRawFrame, OutputImageRawFrame)
        return list(zip(halves[::2], halves[1::2], strict=False))


def held(
    agent: Callable[[Talk], Coroutine[Any, Any, None]],
    avatar: FakeAvatar | None = None,
    **arguments: Any,
) -> Talk:
    """The talk, after the agent has done its part and the pipeline has ended."""

    async def run(url: str) -> Talk:
        talk = Talk(url, **arguments)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(talk.worker)
        await asyncio.wait_for(asyncio.gather(runner.run(), agent(talk)), 30)
        return talk

    with serving(avatar or FakeAvatar(block_s=0.1)) as url:
        return asyncio.run(run(url))
