"""The gateway's application, with faces that need no server, and visitors that need no browser."""

import asyncio
import dataclasses
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from aiohttp.test_utils import TestServer

from live_avatar_client.gateway.app import Gateway
from live_avatar_client.gateway.settings import Settings
from live_avatar_client.gateway.tokens import token
from tests.client.gateway.fake_face import FakeFace
from tests.client.gateway.test_conversation import tone, wav

pytestmark = pytest.mark.long
PORTRAITS = Path(__file__).parents[3] / "examples"
START = {"type": "start", "portrait": "portrait", "transport": "mp4"}


@pytest.fixture(autouse=True)
def faces() -> list[FakeFace]:
    FakeFace.faces.clear()
    FakeFace.refusals.clear()
    return FakeFace.faces


class Visitor:
    """A page without a browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.media = socket, b""

    async def say(self, **fields: Any) -> None:
        await self.socket.send_json(fields)

    async def hear(self, kind: str) -> dict[str, Any]:
        """The next message of this type; what comes before is let go, media kept."""
        async with asyncio.timeout(10):
            async for message in self.socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    self.media += message.data
                elif (told := json.loads(message.data))["type"] == kind:
                    return told
        raise AssertionError(f"closed before any {kind}")


Come = Callable[..., Awaitable[Visitor]]


@asynccontextmanager
async def gateway(num_places: int = 1, **settings: Any) -> AsyncIterator[tuple[Come, TestServer]]:
    """A gateway, and what lets a visitor come."""
    made = Gateway(Settings(portraits=PORTRAITS, **settings), num_places, FakeFace)
    async with TestServer(made.app()) as server, aiohttp.ClientSession() as session:

        async def come(query: str = "", **headers: str) -> Visitor:
            address = server.make_url("/session")
            return Visitor(await session.ws_connect(f"{address}{query}", headers=headers))

        yield come, server


def test_a_visitor_sees_and_hears_the_face() -> None:
    """The whole way: message, face, encoder, WebSocket, decoder."""

    async def run() -> bytes:
        async with gateway() as (come, _):
            visitor = await come()
            hello = await visitor.hear("hello")
            await visitor.say(**START)
            assert (await visitor.hear("state"))["state"] == "idle"
            address = f"/visits/{hello['visit']}/sound"
            async with aiohttp.ClientSession() as session:
                url = str(visitor.socket._response.url.with_path(address)).replace("ws:", "http:")
                answer = await session.post(url, data=wav(tone(0.4)))
                assert answer.status == 200
            while (told := await visitor.hear("state"))["state"] != "speaking":
                assert told["source"] == "speech"
            while (told := await visitor.hear("state"))["state"] != "idle":
                pass
            figures = await visitor.hear("statistics")
            assert figures["sent_fps"] == pytest.approx(25, rel=0.2)
            assert figures["onset_s"]["p50"] is None  # nan is no JSON
            await visitor.say(type="end")
            assert (await visitor.hear("ended"))["why"] == "you ended the session"
            return visitor.media

    content = asyncio.run(run())
    with av.open(io.BytesIO(content)) as container:
        light = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    with av.open(io.BytesIO(content)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert 10 <= sum(value > 128 for value in light) <= 11  # 0.4 s are ten frames
    assert np.flatnonzero(np.abs(sound) > 0.1).size / 48_000 == pytest.approx(0.4, abs=0.1)


def test_a_malformed_message_ends_one_visit_alone(faces: list[FakeFace]) -> None:
    """One broken page would take the other visitors down."""

    async def run() -> None:
        async with gateway(num_places=2) as (come, _):
            good, bad = await come(), await come()
            for visitor in (good, bad):
                await visitor.say(**START)
                await visitor.hear("state")
            await bad.say(type="dance")
            assert "type dance" in (await bad.hear("ended"))["why"]
            await good.hear("statistics")
            assert [face.is_open for face in faces] == [True, False]

    asyncio.run(run())


def test_a_later_visitor_waits_and_gets_in_when_a_tab_is_closed() -> None:
    """The place must be free within two seconds, and nobody asks for it twice."""

    async def run() -> None:
        async with gateway() as (come, _):
            first, second = await come(), await come()
            await first.say(**START)
            await first.hear("state")
            await second.say(**START)
            assert (await second.hear("queue"))["position"] == 1
            closed_s = time.monotonic()
            await first.socket.close()
            await second.hear("admitted")
            assert time.monotonic() - closed_s < 2

    asyncio.run(run())


def test_a_server_that_is_full_for_others_is_asked_again(faces: list[FakeFace]) -> None:
    """Programs beside the gateway hold sessions, too: that is a queue and no error."""
    FakeFace.refusals.append("all 2 sessions of this server are in use; try again later")

    async def run() -> None:
        async with gateway() as (come, _):
            visitor = await come()
            await visitor.say(**START)
            assert (await visitor.hear("queue"))["position"] == 1
            await visitor.say(type="offer", sdp="v=0")  # it was on its way to the face that failed
            await visitor.hear("state")

    asyncio.run(run())
    assert len(faces) == 2


def test_what_the_server_says_reaches_the_visitor() -> None:
    """A bad picture would look like a lost connection."""
    FakeFace.refusals.append("image is cut off")

    async def run() -> None:
        async with gateway() as (come, _):
            visitor = await come()
            await visitor.say(**START)
            assert (await visitor.hear("ended"))["why"] == "image is cut off"

    asyncio.run(run())


def test_a_page_that_does_not_read_is_dropped(faces: list[FakeFace]) -> None:
    """Its frames would pile up in the gateway's memory."""

    async def run() -> None:
        async with gateway() as (_, server):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
            writer.write(
                b"GET /session HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            await reader.readuntil(b"\r\n\r\n")
            content = json.dumps(START).encode()
            mask = bytes(4)  # a mask of zeros leaves the text as it is
            writer.write(bytes([0x81, 0x80 | len(content)]) + mask + content)
            async with asyncio.timeout(10):
                while not faces:
                    await asyncio.sleep(0.02)
                while faces[0].is_open:  # no pong comes: the page is dead after three seconds
                    await asyncio.sleep(0.05)
            writer.close()

    asyncio.run(run())


def test_only_a_token_of_the_gateway_opens_a_visit() -> None:
    """A secret that nobody checks."""
    secret = b"sixteen bytes or more"

    async def run() -> None:
        async with gateway(secret=secret) as (come, _):
            refused = await come("?token=1.2")
            assert "valid token" in (await refused.hear("ended"))["why"]
            visitor = await come(f"?token={token(secret, int(time.time()) + 60)}")
            await visitor.hear("hello")

    asyncio.run(run())


def test_a_foreign_page_opens_no_visit() -> None:
    """Any web page could drive a gateway at localhost."""

    async def run() -> None:
        async with gateway() as (come, _):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await come(Origin="https://evil.example")
            assert refused.value.status == 403

    asyncio.run(run())


def test_an_end_of_the_gateway_is_told(faces: list[FakeFace]) -> None:
    """Ctrl-C would leave pages that wait, and sessions that the server holds for ten seconds."""

    async def run() -> None:
        async with gateway() as (come, server):
            visitor = await come()
            await visitor.say(**START)
            await visitor.hear("state")
            closing = asyncio.create_task(server.close())
            assert "shutting down" in (await visitor.hear("ended"))["why"]
            await closing

    asyncio.run(run())
    assert not faces[0].is_open


def test_health_is_that_of_the_server() -> None:
    """A probe would send visitors to a gateway without a face."""

    async def run() -> None:
        async with gateway(url="127.0.0.1:1") as (_, server), aiohttp.ClientSession() as session:
            answer = await session.get(server.make_url("/healthz"))
            told = await answer.json()
            assert (answer.status, told["ready"]) == (503, False)
            assert "no server answers at 127.0.0.1:1" in told["words"]

    asyncio.run(run())


def test_the_page_and_all_that_it_names_are_served() -> None:
    """A module that is not package data is missed in browsers alone."""
    page = Path(__import__("live_avatar_client.gateway", fromlist=["_"]).__file__).with_name("page")

    async def run() -> None:
        async with gateway() as (_, server), aiohttp.ClientSession() as session:
            for address in ("/", *(f"/page/{path.name}" for path in page.iterdir())):
                answer = await session.get(server.make_url(address))
                assert answer.status == 200, address
                assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            answer = await session.get(server.make_url("/portraits"))
            assert await answer.json() == ["portrait", "portrait_2", "portrait_3"]
            for name in ("..%2fspeech", "speech"):
                answer = await session.get(f"{server.make_url('/portraits/')}{name}")
                assert answer.status == 404

    asyncio.run(run())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"origins": ("example.org",)}, "--origin"),
        ({"portraits": Path("no/such/folder")}, "--portraits"),
        ({"secret": b"short"}, "16 or more"),
    ],
)
def test_wrong_settings_are_refused_in_words(wrong: dict[str, Any], words: str) -> None:
    """They would show when the first visitor comes."""
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(Settings(), **wrong)
