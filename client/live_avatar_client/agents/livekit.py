"""A face for LiveKit Agents: a video generator for `AvatarRunner`, and an avatar session of it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from live_avatar_client.live.frame import LiveFrame
from live_avatar_client.live.session import LiveSession
from live_avatar_client.protocol import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, Array, AvatarError
from live_avatar_client.sound.raw import RawSound

try:
    from livekit import rtc
    from livekit.agents import AgentSession, get_job_context
    from livekit.agents.voice.avatar import (
        AudioSegmentEnd,
        AvatarOptions,
        AvatarRunner,
        QueueAudioOutput,
        VideoGenerator,
    )
except ModuleNotFoundError as error:
    raise ImportError(
        f"the face for LiveKit needs the package {error.name}: "
        "pip install 'live-avatar-client[livekit]'"
    ) from error

STALE_S = 0.1
"""A silent picture that is later than this is left out: the runner's queue would stay full."""
TAKEN_S = 0.2
"""So long may the runner take for a piece of sound, before an interruption waits no more."""

_log = logging.getLogger(__name__)


class LiveAvatarVideoGenerator(VideoGenerator):
    """Speech of any rate in, picture and sound out: every picture, and while the face speaks the
    40 ms of sound that belong to it, whose `userdata` says `frame_index` and `generation`. Behind a
    segment comes its `AudioSegmentEnd`, unless `clear_buffer` has dropped it.

    `av_sync` is the runner's, which `clear_buffer` empties. Speech waits until somebody takes the
    pictures. When the face is lost, the log says why, and the agent keeps its voice.

    The arguments are those of `LiveSession`, which is `face`. Good once.
    """

    def __init__(self, **session: Any) -> None:
        self.face = LiveSession(**session)
        self.av_sync: rtc.AVSynchronizer | None = None
        self.is_lost = False
        self._frames = self.face.frames()
        self._sound = RawSound()
        self._voice: asyncio.Queue[Array] = asyncio.Queue()  # what is said without a face
        self._num_interruptions = 0
        self._is_whole = False  # the segment: it ends when all of it was shown
        self._has_ended = asyncio.Event()
        self._early: list[Array] | None = []  # speech, until somebody takes the pictures
        self._is_taken = asyncio.Event()  # the runner is not busy with a piece of sound
        self._is_taken.set()

    async def open(self) -> tuple[int, int]:
        """Connect and wait for the first picture; its width and height. AvatarError with the way
        out where that fails."""
        await self.face.open()
        height, width, _ = (await anext(self._frames)).picture.shape
        return width, height

    async def aclose(self) -> None:
        """Free the server's place. Twice does no harm."""
        await self.face.close()

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Say a piece of speech; or end its segment, and wait for that, because the runner knows of
        one segment at a time. What can't be said is logged."""
        if not isinstance(frame, AudioSegmentEnd):
            try:
                sound = self._sound.add(bytes(frame.data), frame.sample_rate, frame.num_channels)
            except ValueError as error:
                _log.error("the face can't say this: %s", error)
            else:
                self._say(sound)
            return
        self._say(self._sound.finish(), is_last=True)
        self._has_ended.clear()
        self._is_whole = True
        if self.is_lost:
            self._voice.put_nowait(np.empty(0, np.int16))  # wakes who waits for more of it
        await self._has_ended.wait()

    async def clear_buffer(self) -> None:
        """Drop all speech: the face is quiet from now on."""
        self._num_interruptions += 1
        self._sound.clear()
        if self._early is not None:
            self._early.clear()
        while not self._voice.empty():
            self._voice.get_nowait()
        try:
            if not self.is_lost:
                self.face.interrupt()
        except AvatarError as error:
            self._lose(error)
        self._finish()
        if self.av_sync is not None:
            await self.av_sync.clear_queue()
        with contextlib.suppress(TimeoutError):  # the runner counts it, and then begins anew
            await asyncio.wait_for(self._is_taken.wait(), TAKEN_S)

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        """All that is shown and heard, each at its moment."""
        try:
            async for frame in self._frames:
                async for part in self._pair(frame):
                    yield part
                if self._is_shown(frame):
                    yield AudioSegmentEnd()
                    self._finish()
        except AvatarError as error:
            self._lose(error)
            self._begin()
        while self.is_lost:
            if self._is_whole and self._voice.empty():
                yield AudioSegmentEnd()
                self._finish()
            elif len(piece := await self._voice.get()):
                self._is_taken.clear()
                yield _sound(piece)
                self._is_taken.set()

    async def _pair(self, frame: LiveFrame) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame]:
        """Picture and sound of a frame. Speech may be interrupted while its picture is taken."""
        num_interruptions = self._num_interruptions
        if frame.is_speech or time.monotonic() - frame.time_s < STALE_S:
            yield _picture(frame)
            self._begin()
        if frame.is_speech and num_interruptions == self._num_interruptions:
            self._is_taken.clear()
            yield _sound(frame.sound, frame_index=frame.index, generation=frame.generation)
            self._is_taken.set()

    def _begin(self) -> None:
        """Somebody takes what is shown and heard: say what has waited for that."""
        if self._early is not None:
            early, self._early = self._early, None
            self._say(np.concatenate([np.empty(0, np.int16), *early]), is_last=self._is_whole)

    def _is_shown(self, frame: LiveFrame) -> bool:
        """Whether the segment is whole, and all of it was shown with this frame."""
        is_said = self._early is None and not (frame.is_speech or self.face.is_speaking)
        return self._is_whole and is_said

    def _say(self, samples: Array, is_last: bool = False) -> None:
        if self._early is not None:
            self._early.append(samples)
            return
        try:
            if not self.is_lost:
                self.face.feed(samples)
                if is_last:
                    self.face.flush()
                return
        except AvatarError as error:
            self._lose(error)
        except ValueError as error:
            _log.error("the face can't say this: %s", error)
            return
        for begin in range(0, len(samples), SAMPLES_PER_FRAME):
            self._voice.put_nowait(samples[begin : begin + SAMPLES_PER_FRAME])

    def _finish(self) -> None:
        self._is_whole = False
        self._has_ended.set()

    def _lose(self, error: AvatarError) -> None:
        if not self.is_lost:
            _log.error("the agent goes on without its face: %s", error)
        self.is_lost = True


class LiveAvatarSession:
    """The face of an agent, shown in its room by the agent itself.

    avatar = LiveAvatarSession(image="portrait.png")
    await avatar.start(agent_session, room=context.room)  # before agent_session.start

    The arguments are those of `LiveSession`. Ends with the job, or with `aclose`.
    """

    def __init__(self, **session: Any) -> None:
        self.generator = LiveAvatarVideoGenerator(**session)
        self.runner: AvatarRunner | None = None

    async def start(self, agent_session: AgentSession[Any], room: rtc.Room) -> None:
        """Connect, and take the agent's speech from now on. AvatarError with the way out when there
        is no server."""
        context = get_job_context(required=False)
        if context is not None:
            context.add_shutdown_callback(self.aclose)
        try:
            width, height = await self.generator.open()
        except BaseException:
            await self.aclose()
            raise
        speech = QueueAudioOutput(wait_playback_start=True)
        options = AvatarOptions(
            video_width=width,
            video_height=height,
            video_fps=FPS,
            audio_sample_rate=SAMPLE_RATE,
            audio_channels=1,
        )
        self.runner = AvatarRunner(
            room, audio_recv=speech, video_gen=self.generator, options=options
        )
        self.generator.av_sync = self.runner.av_sync
        await self.runner.start()
        agent_session.output.replace_audio_tail(speech)

    async def aclose(self) -> None:
        """Take the face away and free the server's place. Twice does no harm."""
        runner, self.runner = self.runner, None
        if runner is not None:
            await runner.aclose()
        await self.generator.aclose()


def _picture(frame: LiveFrame) -> rtc.VideoFrame:
    height, width, _ = frame.picture.shape
    pixels = np.ascontiguousarray(frame.picture).tobytes()
    return rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, pixels)


def _sound(samples: Array, **userdata: int) -> rtc.AudioFrame:
    return rtc.AudioFrame(samples.tobytes(), SAMPLE_RATE, 1, len(samples), userdata=userdata)
