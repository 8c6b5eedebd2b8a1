"""All that goes to one browser by its WebSocket, in order, in bounded memory."""

import asyncio
import json
from typing import Any

from aiohttp import web

_MAX_HELD = 200
"""Messages: some three seconds of fragments and figures."""


class SlowReaderError(Exception):
    """The browser has stopped taking what is sent to it."""


class Outbox:
    """`post` and `post_bytes` never wait; `pump` sends."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._held: asyncio.Queue[str | bytes] = asyncio.Queue(_MAX_HELD)

    def post(self, kind: str, **fields: Any) -> None:
        """A JSON message; SlowReaderError where too many wait already."""
        self.post_bytes(json.dumps({"type": kind, **fields}, allow_nan=False))

    def post_bytes(self, content: str | bytes) -> None:
        try:
            self._held.put_nowait(content)
        except asyncio.QueueFull:
            raise SlowReaderError("this browser does not take what is sent to it") from None

    async def pump(self) -> None:
        """Send until the socket is gone."""
        while not self._socket.closed:
            content = await self._held.get()
            if isinstance(content, str):
                await self._socket.send_str(content)
            else:
                await self._socket.send_bytes(content)
