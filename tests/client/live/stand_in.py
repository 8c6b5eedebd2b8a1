"""Talks with a stand-in server that speaks the wire."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from live_avatar_client import LiveFrame, LiveSession
from tests.support.fake_avatar_server import FakeAvatar, serving


def held(
    talk: Callable[[LiveSession], Awaitable[Any]],
    avatar: FakeAvatar | None = None,
    **options: Any,
) -> Any:
    """What a talk with a session returns."""

    async def run(url: str) -> Any:
        async with LiveSession(image=b"png", url=url, **options) as face:
            return await talk(face)

    with serving(avatar or FakeAvatar(block_s=0.1)) as url:
        return asyncio.run(run(url))


async def frames_for(face: LiveSession, seconds: float) -> list[LiveFrame]:
    return [frame async for frame in until(face, seconds)]


async def until(face: LiveSession, seconds: float) -> AsyncIterator[LiveFrame]:
    async for frame in face.frames():
        yield frame
        if frame.index >= 25 * seconds:
            return
