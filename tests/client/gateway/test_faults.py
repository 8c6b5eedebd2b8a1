"""Crowds and broken networks before a gateway."""

import asyncio
import time

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from live_avatar_client import LiveSession
from live_avatar_client.gateway.app import Gateway
from live_avatar_client.gateway.settings import Settings
from tests.client.cut_wire import cut_wire
from tests.client.gateway.fake_face import FakeFace
from tests.client.gateway.test_app import PORTRAITS, START, Visitor, gateway
from tests.support.fake_avatar_server import FakeAvatar, serving

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def faces() -> list[FakeFace]:
    FakeFace.faces.clear()
    FakeFace.refusals.clear()
    return FakeFace.faces


def test_ten_visitors_at_two_places_get_in_one_after_another(faces: list[FakeFace]) -> None:
    """Each hears its place in the queue; whoever leaves makes room for the next, and for one."""

    async def run() -> None:
        async with gateway(num_places=2) as (come, _):
            visitors = [await come() for _ in range(10)]
            for visitor in visitors:
                await visitor.say(**START)
                if visitor in visitors[:2]:
                    await visitor.hear("state")
                else:
                    place = visitors.index(visitor) - 1
                    assert (await visitor.hear("queue"))["position"] == place
            for leaving, entering in zip(visitors, visitors[2:], strict=False):
                await leaving.socket.close()
                await entering.hear("state")
                assert sum(face.is_open for face in faces) == 2
            for visitor in visitors[8:]:
                await visitor.socket.close()
            async with asyncio.timeout(5):
                while any(face.is_open for face in faces):
                    await asyncio.sleep(0.02)
            assert len(faces) == 10

    asyncio.run(run())


def test_a_page_behind_a_dead_network_gives_its_place_back(faces: list[FakeFace]) -> None:
    """Nothing says that the cable is out. The next visitor must not wait for the system's timers,
    and the first one hears of it when the cable is in again."""

    async def run() -> None:
        async with gateway() as (come, server), aiohttp.ClientSession() as session:
            with cut_wire(server.port) as wire:
                socket = await session.ws_connect(f"http://127.0.0.1:{wire.port}/session")
                lost = Visitor(socket)
                await lost.say(**START)
                await lost.hear("state")
                wire.cut()
                cut_s = time.monotonic()
                other = await come()
                await other.say(**START)
                assert (await other.hear("queue"))["position"] == 1
                await other.hear("state")
                assert time.monotonic() - cut_s < 5
                assert [face.is_open for face in faces] == [False, True]
                await asyncio.sleep(max(0.0, cut_s + 5 - time.monotonic()))
                wire.mend()
                async with asyncio.timeout(5):
                    async for _ in socket:
                        pass
                assert socket.closed

    asyncio.run(run())


def test_a_server_that_goes_away_and_comes_back_keeps_its_visitor() -> None:
    """Whoever talks with the face would have to press Start again, or think that it is broken."""

    async def run() -> list[str]:
        avatar, states = FakeAvatar(block_s=0.05, abort_at_block=4, num_faulty=1), []
        with serving(avatar) as url:
            made = Gateway(Settings(portraits=PORTRAITS, url=url), 1, LiveSession)
            async with TestServer(made.app()) as server, aiohttp.ClientSession() as session:
                visitor = Visitor(await session.ws_connect(server.make_url("/session")))
                await visitor.say(**START)
                while states[-2:] != ["away", "idle"]:
                    states.append((await visitor.hear("state"))["state"])
                await visitor.say(type="end")
                await visitor.hear("ended")
        assert avatar.num_streams == 2
        return states

    assert asyncio.run(run())[0] == "idle"


def test_a_server_that_refuses_first_is_a_queue_and_no_loss() -> None:
    """A page that has shown nothing yet would say that something is gone."""

    async def run() -> None:
        words = "all 2 sessions of this server are in use; try again later"
        with serving(FakeAvatar(refuses_start=words, num_faulty=3)) as url:
            made = Gateway(Settings(portraits=PORTRAITS, url=url), 1, LiveSession)
            async with TestServer(made.app()) as server, aiohttp.ClientSession() as session:
                visitor = Visitor(await session.ws_connect(server.make_url("/session")))
                await visitor.say(**START)
                assert (await visitor.hear("queue"))["position"] == 1
                assert (await visitor.hear("state"))["state"] == "idle"

    asyncio.run(run())
