"""What goes to a browser is bounded."""

import asyncio
import contextlib
from typing import Any

import pytest

from live_avatar_client.gateway.outbox import Outbox, SlowReaderError


class Socket:
    """Takes nothing until `opened`; `sent` is what it took."""

    closed = False

    def __init__(self) -> None:
        self.opened, self.sent = asyncio.Event(), list[Any]()

    async def send_str(self, text: str) -> None:
        await self.opened.wait()
        self.sent.append(text)

    send_bytes = send_str


def test_a_browser_that_takes_nothing_is_noticed_after_some_seconds() -> None:
    """Fragments would pile up in memory as long as its tab is open."""

    async def run() -> int:
        outbox, num_posted = Outbox(Socket()), 0
        pump = asyncio.create_task(outbox.pump())
        with contextlib.suppress(SlowReaderError):
            while num_posted < 10_000:
                await asyncio.sleep(0)
                outbox.post_bytes(b"a fragment")
                num_posted += 1
        pump.cancel()
        return num_posted

    assert 50 < asyncio.run(run()) < 500  # 25 fragments a second and a few figures


def test_everything_leaves_in_order() -> None:
    """A fragment before the message that announces its codec is lost to the page."""

    async def run() -> list[Any]:
        socket = Socket()
        outbox = Outbox(socket)
        socket.opened.set()
        pump = asyncio.create_task(outbox.pump())
        outbox.post("mp4", mime="x")
        outbox.post_bytes(b"first")
        outbox.post_bytes(b"second")
        while len(socket.sent) < 3:
            await asyncio.sleep(0)
        pump.cancel()
        return socket.sent

    assert asyncio.run(run()) == ['{"type": "mp4", "mime": "x"}', b"first", b"second"]


def test_what_json_cannot_say_is_no_message() -> None:
    """NaN would break the page's parser, and the visit with it."""

    async def run() -> None:
        Outbox(Socket()).post("statistics", onset=float("nan"))

    with pytest.raises(ValueError, match="JSON"):
        asyncio.run(run())
