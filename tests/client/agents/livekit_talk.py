"""An agent of LiveKit's kind and its face in a stand-in room."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import QueueAudioOutput

from live_avatar_client.agents.livekit import LiveAvatarSession, LiveAvatarVideoGenerator
from tests.client.agents.stand_in_room import StandInRoom
from tests.support.fake_avatar_server import FakeAvatar, serving

RATE = 24_000  # of most speech synthesisers


class Agent:
    """As much of an agent session as a face needs: `output` takes the speech; every event with its
    moment."""

    def __init__(self) -> None:
        self.output = self
        self.speech: QueueAudioOutput
        self.events: list[tuple[float, str, Any]] = []

    def replace_audio_tail(self, speech: QueueAudioOutput) -> None:
        self.speech = speech
        speech.on("playback_started", lambda event: self._note("started", event))
        speech.on("playback_finished", lambda event: self._note("finished", event))

    def _note(self, name: str, event: Any) -> None:
        self.events.append((time.monotonic(), name, event))

    async def say(self, seconds: float) -> None:
        """A segment in pieces, far faster than it is spoken."""
        time_s = np.arange(round(seconds * RATE)) / RATE
        samples = (8000 * np.sin(2 * np.pi * 220 * time_s) + 500).astype(np.int16)
        for begin in range(0, len(samples), 2400):
            piece = samples[begin : begin + 2400]
            await self.speech.capture_frame(rtc.AudioFrame(piece.tobytes(), RATE, 1, len(piece)))
        self.speech.flush()

    @property
    def finished(self) -> list[tuple[float, bool]]:
        """(position, interrupted) of every segment that came to its end."""
        ends = [event for _, name, event in self.events if name == "finished"]
        return [(round(event.playback_position, 2), event.interrupted) for event in ends]


class Noting(LiveAvatarVideoGenerator):
    """Notes all that the runner takes, with its moment."""

    def __init__(self, **session: Any) -> None:
        super().__init__(**session)
        self.taken: list[tuple[float, Any]] = []

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for part in super().__aiter__():
            self.taken.append((time.monotonic(), part))
            yield part


class Talk:
    """An agent and its face in a room."""

    def __init__(self, url: str, room: StandInRoom | None = None, **arguments: Any) -> None:
        self.room, self.agent = room or StandInRoom(), Agent()
        self.face = LiveAvatarSession(image=b"png", url=url, **arguments)
        self.face.generator = self.generator = Noting(image=b"png", url=url, **arguments)

    async def __aenter__(self) -> "Talk":
        await self.face.start(self.agent, self.room)  # type: ignore[arg-type]
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.face.aclose()

    def of(self, kind: type) -> list[tuple[float, Any]]:
        return [(at_s, part) for at_s, part in self.generator.taken if isinstance(part, kind)]


def held(
    talk: Callable[[Talk], Awaitable[Any]], avatar: FakeAvatar | None = None, **arguments: Any
) -> Any:
    async def run(url: str) -> Any:
        async with Talk(url, **arguments) as open_talk:
            return await asyncio.wait_for(talk(open_talk), 30)

    with serving(avatar or FakeAvatar(block_s=0.1)) as url:
        return asyncio.run(run(url))
