"""The two ways by which frames get to a browser."""

import asyncio
from typing import Protocol

from live_avatar_client.gateway.fragments import MIME, Fragments
from live_avatar_client.gateway.outbox import Outbox
from live_avatar_client.live.frame import LiveFrame


class Outlet(Protocol):
    """Takes every frame when it is due; picture and sound leave together."""

    async def show(self, frame: LiveFrame) -> None: ...
    async def close(self) -> None: ...


class Mp4Outlet:
    """Fragmented MP4 on the visitor's own WebSocket: TCP all the way, so it passes anything."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._fragments: Fragments | None = None
        self._first = 0  # index of the first frame

    async def show(self, frame: LiveFrame) -> None:
        """SlowReaderError where the browser does not take what was sent before."""
        if self._fragments is None:
            self._fragments = Fragments(*frame.picture.shape[:2])
            self._first = frame.index
            self._outbox.post("mp4", mime=MIME)
        tick = frame.index - self._first
        add = self._fragments.add
        self._outbox.post_bytes(await asyncio.to_thread(add, tick, frame.picture, frame.sound))

    async def close(self) -> None:
        if self._fragments is not None:
            await asyncio.to_thread(self._fragments.finish)
