"""What the face is given to say: a microphone, sound files, sentences; and when it is interrupted.

One source at a time: a voice in the microphone interrupts what is being said, anything quieter is
dropped until that is over.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

import av

from live_avatar_client.gateway.microphone import Microphone
from live_avatar_client.gateway.speech import file_samples, spoken_samples
from live_avatar_client.protocol import SAMPLE_RATE, Array, AvatarError

_PIECE_S, _MAX_AHEAD_S = 1.0, 3.0
_MAX_WAITING = 5


class Listener(Protocol):
    """The part of a `LiveSession` that takes sound."""

    def feed(self, audio: Array) -> None: ...
    def flush(self) -> None: ...
    def interrupt(self) -> int: ...


class Conversation:
    """`failed` hears, in words, what could not be said."""

    def __init__(
        self, face: Listener, say_program: Sequence[str], failed: Callable[[str], None]
    ) -> None:
        self._face, self._say_program, self._failed = face, say_program, failed
        self._microphone = Microphone()
        self._in_turn = asyncio.Lock()
        self._speeches: set[asyncio.Task[None]] = set()
        self.microphone_is_open = False
        self.rate = 48_000  # of `heard_samples`

    @property
    def source(self) -> str | None:
        """Whose sound the face gets: "speech", "microphone" or None."""
        if self._speeches:
            return "speech"
        return "microphone" if self.microphone_is_open else None

    def heard(self, frame: av.AudioFrame) -> None:
        """Take a microphone's frame of any rate."""
        if self.microphone_is_open:
            self._take(self._microphone.heard(frame))

    def heard_samples(self, content: bytes) -> None:
        """The same of int16 mono samples at `rate`; ValueError where they are none."""
        samples = self._microphone.heard_samples(content, self.rate)
        if self.microphone_is_open:
            self._take(samples)

    def say(self, text: str) -> None:
        """Speak a sentence when its turn has come."""
        self._begin(spoken_samples(self._say_program, text))

    def play(self, content: bytes) -> None:
        """Speak a sound file when its turn has come."""
        self._begin(file_samples(content))

    def interrupt(self) -> None:
        """Fall silent at once; what waits for its turn is dropped, too."""
        for speech in self._speeches:
            speech.cancel()
        self._speeches.clear()
        self._face.interrupt()

    async def close(self) -> None:
        speeches, self._speeches = self._speeches, set()
        for speech in speeches:
            speech.cancel()
        await asyncio.gather(*speeches, return_exceptions=True)

    def _take(self, samples: Array) -> None:
        if self._speeches and self._microphone.is_voice:
            self.interrupt()
        if self._speeches:
            return
        if len(samples):
            self._face.feed(samples)
        if not self._microphone.is_open:
            self._face.flush()

    def _begin(self, coming: Coroutine[Any, Any, Array]) -> None:
        if len(self._speeches) >= _MAX_WAITING:
            coming.close()
            self._failed(f"{_MAX_WAITING} speeches wait already: let it finish, or interrupt it")
            return
        speech = asyncio.create_task(self._speak(coming))
        self._speeches.add(speech)
        speech.add_done_callback(self._speeches.discard)

    async def _speak(self, coming: Awaitable[Array]) -> None:
        try:
            samples = await coming
            async with self._in_turn:
                await self._feed(samples)
        except (ValueError, AvatarError) as error:
            self._failed(str(error))

    async def _feed(self, samples: Array) -> None:
        """Hand the samples over some seconds ahead of the listener; return when it was heard."""
        begun_s, piece = time.monotonic(), round(_PIECE_S * SAMPLE_RATE)
        for begin in range(0, len(samples), piece):
            due_s = begun_s + begin / SAMPLE_RATE - _MAX_AHEAD_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self._face.feed(samples[begin : begin + piece])
        self._face.flush()
        await asyncio.sleep(max(0.0, begun_s + len(samples) / SAMPLE_RATE - time.monotonic()))
