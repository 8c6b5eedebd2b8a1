"""A face for Pipecat: a service between text-to-speech and the output transport.

pip install 'live-avatar-client[pipecat]'
"""

import asyncio
from typing import Any

import numpy as np

from live_avatar_client.live.frame import LiveFrame
from live_avatar_client.live.session import LiveSession
from live_avatar_client.protocol import SAMPLE_RATE, Array, AvatarError
from live_avatar_client.sound.raw import RawSound

try:
    from pipecat.frames.frames import (
        CancelFrame,
        EndFrame,
        Frame,
        InterruptionFrame,
        OutputImageRawFrame,
        SpeechOutputAudioRawFrame,
        StartFrame,
        TTSAudioRawFrame,
        TTSStoppedFrame,
    )
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
    from pipecat.services.ai_service import AIService
    from pipecat.services.settings import ServiceSettings
except ModuleNotFoundError as error:
    raise ImportError(
        f"the face for Pipecat needs the package {error.name}: "
        "pip install 'live-avatar-client[pipecat]'"
    ) from error

TAKEN = (InterruptionFrame, TTSAudioRawFrame, TTSStoppedFrame)
"""What the face takes. It keeps the end of a sentence to itself, too: a transport would fill its
last chunk up with silence there, and fall behind the picture."""


class LiveAvatarService(AIService):
    """Speech in (`TTSAudioRawFrame` of any rate), picture and sound out, 25 pairs in a second.

    A pair is a `SpeechOutputAudioRawFrame` of 640 samples at 16 kHz and an `OutputImageRawFrame`;
    `metadata` of both says `frame_index`, `generation` and `is_speech`. An interruption silences
    the face at once. An `EndFrame` waits until everything was said. When the face is lost, an
    `ErrorFrame` says why, the service is no longer usable, and speech passes through it: the agent
    keeps its voice.

    `name` is Pipecat's; all else are arguments of `LiveSession`, which is `face`. Good once.
    """

    def __init__(self, *, name: str | None = None, **session: Any) -> None:
        super().__init__(settings=ServiceSettings(model=None), name=name)
        self.face = LiveSession(**session)
        self._sound = RawSound()
        self._showing: asyncio.Task[None] | None = None
        self._is_started = False
        self._has_said_all = asyncio.Event()
        self._has_said_all.set()

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Connect, while other processors do the same; what fails is an `ErrorFrame`."""
        await super().setup(setup)
        try:
            await self.face.open()
        except AvatarError as error:
            await self._lose(error)
            return
        self._showing = self.create_task(self._show())

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        self._is_started = True

    async def stop(self, frame: EndFrame) -> None:
        """Say the rest, then leave."""
        await super().stop(frame)
        if self.is_usable and self._showing:
            await self._take(TTSStoppedFrame())
            await self._has_said_all.wait()
        await self._leave()

    async def cancel(self, frame: CancelFrame) -> None:
        await super().cancel(frame)
        await self._leave()

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._leave()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take speech and interruptions, pass everything else on."""
        await super().process_frame(frame, direction)
        if not (isinstance(frame, TAKEN) and self.is_usable and self._showing):
            await self.push_frame(frame, direction)
            return
        await self._take(frame)
        if isinstance(frame, InterruptionFrame):
            await self.push_frame(frame, direction)

    async def _take(self, frame: TTSAudioRawFrame | TTSStoppedFrame | InterruptionFrame) -> None:
        """Hand a frame to the face; what it can't take is an `ErrorFrame`."""
        try:
            if isinstance(frame, InterruptionFrame):
                self._sound.clear()
                self.face.interrupt()
            elif isinstance(frame, TTSStoppedFrame):
                self._feed(self._sound.finish())
                self.face.flush()
            else:
                self._feed(self._sound.add(frame.audio, frame.sample_rate, frame.num_channels))
        except AvatarError as error:
            await self._lose(error)
        except ValueError as error:
            await self.push_error(f"the face can't say this: {error}", exception=error)

    def _feed(self, samples: Array) -> None:
        if len(samples):
            self.face.feed(samples)
            self._has_said_all.clear()

    async def _show(self) -> None:
        """Push every pair at its moment; those from before the start would be shown late."""
        try:
            async for frame in self.face.frames():
                if self._is_started:
                    await self._push_pair(frame)
                if not (frame.is_speech or self.face.is_speaking):
                    self._has_said_all.set()
        except AvatarError as error:
            await self._lose(error)

    async def _push_pair(self, frame: LiveFrame) -> None:
        height, width, _ = frame.picture.shape
        sound = SpeechOutputAudioRawFrame(
            audio=frame.sound.tobytes(), sample_rate=SAMPLE_RATE, num_channels=1
        )
        picture = OutputImageRawFrame(
            image=np.ascontiguousarray(frame.picture).tobytes(), size=(width, height), format="RGB"
        )
        for half in (sound, picture):
            half.metadata |= {
                "frame_index": frame.index,
                "generation": frame.generation,
                "is_speech": frame.is_speech,
            }
            await self.push_frame(half)

    async def _lose(self, error: AvatarError) -> None:
        """Say once that there is no face any more."""
        self._has_said_all.set()
        if self.is_usable:
            await self.push_error(str(error), exception=error, force_treat_as_permanent=True)

    async def _leave(self) -> None:
        """Free the server's place; twice does no harm."""
        if self._showing is not None:
            showing, self._showing = self._showing, None
            await self.cancel_task(showing)
        await self.face.close()
