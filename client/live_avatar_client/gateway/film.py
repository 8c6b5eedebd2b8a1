"""Text to video as a visit shows it: a prompt makes an endless film, another one may follow."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from live_avatar_client.live.frame import LiveFrame
from live_avatar_client.protocol import FPS, SAMPLES_PER_FRAME, Array, AvatarError, Block
from live_avatar_client.rolling import ROLLING_FPS, VideoStream
from live_avatar_client.tls import Tls

_BLOCKS_AT_ONCE = 2
_AHEAD = ROLLING_FPS
"""With fewer pictures ahead of the viewer, more are asked for. A new prompt shows behind them."""
_SILENCE = np.zeros(SAMPLES_PER_FRAME, np.int16)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmStatistics:
    """`held`: pictures that were not there at their moment, counted for each frame that lacked
    them."""

    first_frame_s: float | None
    frames: int
    held: int


class Film:
    """A `VideoStream` with the methods of a `LiveSession` that a visit needs: 25 silent frames a
    second, of which one or two show the same of 16 pictures."""

    is_lost = False
    """A film ends with its server."""

    def __init__(
        self,
        *,
        url: str,
        model: str,
        prompt: str | None,
        seed: int | None,
        tls: Tls | None = None,
    ) -> None:
        self._stream = VideoStream(url=url, tls=tls, model=model, prompt=prompt or "", seed=seed)
        self._prompt: str | None = None
        self._pictures: deque[tuple[Array, Block]] = deque()
        self._changed = asyncio.Event()
        self._error: Exception | None = None
        self._opened_s = time.monotonic()
        self._first_frame_s: float | None = None
        self._num_frames = self._num_held = 0

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._stream.open)
        self._making = asyncio.create_task(self._make())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._making.cancel()
        await asyncio.gather(self._making, return_exceptions=True)
        await asyncio.to_thread(self._stream.close)

    async def set_prompt(self, prompt: str) -> None:
        """Show this behind the pictures that are made already."""
        self._prompt = prompt

    def feed(self, _: Array) -> None:
        """ValueError: there is nobody in it who could say it."""
        raise ValueError("a film takes a prompt and no sound")

    def flush(self) -> None:
        """Nothing: there is no sound."""

    def interrupt(self) -> int:
        """Nothing, either."""
        return 0

    def statistics(self) -> FilmStatistics:
        """What the film was like so far."""
        return FilmStatistics(
            first_frame_s=self._first_frame_s, frames=self._num_frames, held=self._num_held
        )

    async def frames(self) -> AsyncIterator[LiveFrame]:
        """Every frame at its time, for ever; AvatarError when no more can be made."""
        while not self._pictures:
            await self._wait()
        picture, block = self._pictures.popleft()
        t0_s, tick = time.monotonic(), 0
        self._first_frame_s = t0_s - self._opened_s
        part = 0  # of the next picture's time that has passed, in 25ths
        while True:
            self._num_frames += 1
            yield LiveFrame(
                index=tick,
                time_s=t0_s + tick / FPS,
                picture=picture,
                sound=_SILENCE,
                is_speech=False,
                is_held=part >= FPS,
                generation=0,
                block=block.block,
                timings_ms=block.timings_ms,
            )
            tick += 1
            await asyncio.sleep(max(0.0, t0_s + tick / FPS - time.monotonic()))
            part = min(part + ROLLING_FPS, FPS + ROLLING_FPS)
            if part < FPS:
                continue
            if self._pictures:
                picture, block = self._pictures.popleft()
                part -= FPS
                self._changed.set()
            else:  # the film stands still, and goes on from there
                self._num_held += 1
                self._raise_error()

    async def _make(self) -> None:
        """Ask for blocks as long as the viewer has few ahead."""
        try:
            while True:
                prompt, self._prompt = self._prompt, None
                blocks: Iterator[Block] = self._stream.blocks(_BLOCKS_AT_ONCE, prompt=prompt)
                while (block := await asyncio.to_thread(next, blocks, None)) is not None:
                    self._pictures.extend((picture, block) for picture in block.frames)
                    self._changed.set()
                while len(self._pictures) >= _AHEAD:
                    await self._wait()
        except (AvatarError, ValueError) as error:
            self._error = error
            self._changed.set()

    async def _wait(self) -> None:
        self._raise_error()
        self._changed.clear()
        await self._changed.wait()

    def _raise_error(self) -> None:
        if self._error is not None and not self._pictures:
            raise self._error
