"""A live conversation for plain threads; its event loop runs in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Self, TypeVar

from live_avatar_client.live.frame import LiveFrame
from live_avatar_client.live.session import LiveSession
from live_avatar_client.live.statistics import LiveStatistics
from live_avatar_client.protocol import Array

T = TypeVar("T")


class ThreadedLiveSession:
    """`LiveSession`, with its arguments and its errors; a context manager, good once. Any thread
    may call any method, one of them iterates over `frames`."""

    def __init__(self, **arguments: Any) -> None:
        self._face = LiveSession(**arguments)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="avatar-live", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._wait(self._face.open())
        except BaseException:  # `with` closes only what it has entered
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def feed(self, audio: Array) -> None:
        self._call(self._face.feed, audio)

    def flush(self) -> None:
        self._call(self._face.flush)

    def interrupt(self) -> int:
        return self._call(self._face.interrupt)

    def said(self) -> None:
        self._wait(self._face.said())

    @property
    def is_speaking(self) -> bool:
        return self._call(lambda: self._face.is_speaking)

    def set_prompt(self, prompt: str) -> None:
        self._wait(self._face.set_prompt(prompt))

    def statistics(self) -> LiveStatistics:
        return self._call(self._face.statistics)

    def frames(self) -> Iterator[LiveFrame]:
        """Every frame at its time, until the session is closed."""
        frames = self._face.frames()
        while (frame := self._wait(_next(frames))) is not None:
            yield frame

    def close(self) -> None:
        """End the session and free the server's place. Twice does no harm."""
        if self._loop.is_closed():
            return
        try:
            self._wait(self._face.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        async def call() -> T:
            return function(*arguments)

        return self._wait(call())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What it returns or raises, from the loop's thread."""
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("the session is not open: use `with ThreadedLiveSession(...)`")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _next(frames: Any) -> LiveFrame | None:
    frame: LiveFrame | None = await anext(frames, None)
    return frame
