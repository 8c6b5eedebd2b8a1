"""The stream to the server, as an event loop uses it. Its threads are those of `Stream`: the
asynchronous gRPC of Python serves one loop in a process well, and prints errors with two."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

from live_avatar_client.protocol import AvatarError
from live_avatar_client.stream import Stream
from live_avatar_client.tls import Tls


class Connection:
    """A `ModelStreamInfer` call. Opened and used in one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()  # messages, then None or an AvatarError
        self._stream: Stream | None = None

    async def open(self, url: str, model: str, timeout_s: float, tls: Tls | None = None) -> None:
        """AvatarError with the way out when no server answers, or its model is not ready."""
        connect = functools.partial(
            Stream,
            url=url,
            model=model,
            connect_timeout_s=timeout_s,
            on_response=self._put,
            on_end=self._put,
            tls=tls,
        )
        opening = asyncio.ensure_future(asyncio.to_thread(connect))
        try:
            self._stream = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_drop)
            raise

    def send(self, request: Any) -> None:
        """Queue one `ModelInferRequest`; what goes wrong is raised by `messages`."""
        assert self._stream
        self._stream.send(request)

    async def messages(self) -> AsyncIterator[Any]:
        """Every `ModelStreamInferResponse`; AvatarError when the stream breaks."""
        while (message := await self._arrived.get()) is not None:
            if isinstance(message, AvatarError):
                raise message
            yield message

    def cancel(self) -> None:
        """Drop the call at once; the server sees its requests cancelled."""
        assert self._stream
        self._stream.cancel()

    async def close(self, grace_s: float = 2.0) -> None:
        """Say that no request follows, wait for the server to hang up, and let go."""
        assert self._stream
        await asyncio.to_thread(self._stream.close, grace_s)

    def _put(self, message: Any) -> None:
        """Called by the stream's reading thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed without closing the session
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, message)


def _drop(opening: "asyncio.Future[Stream]") -> None:
    """Close a stream that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close(grace_s=0)
