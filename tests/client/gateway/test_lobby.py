"""Places, and the queue before them."""

import asyncio

import pytest

from live_avatar_client.gateway.lobby import Lobby


class Visitor:
    """Holds a place until `leave`; `positions` is what it was told."""

    def __init__(self, lobby: Lobby) -> None:
        self.positions: list[int] = []
        self.is_inside = False
        self._leaving = asyncio.Event()
        self.task = asyncio.create_task(self._visit(lobby))

    async def _visit(self, lobby: Lobby) -> None:
        async with lobby.place(self.positions.append):
            self.is_inside = True
            await self._leaving.wait()
        self.is_inside = False

    async def leave(self) -> None:
        self._leaving.set()
        await self.task
        await settle()

    async def give_up(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def visitors(lobby: Lobby, count: int) -> list[Visitor]:
    came = [Visitor(lobby) for _ in range(count)]
    await settle()
    return came


def test_who_comes_later_hears_its_place_and_moves_up() -> None:
    """A queue whose numbers stand still looks like a page that hangs."""

    async def run() -> None:
        lobby = Lobby(1, 10)
        first, second, third = await visitors(lobby, 3)
        assert (first.positions, second.positions, third.positions) == ([], [1], [2])
        await first.leave()
        assert (second.is_inside, third.is_inside) == (True, False)
        assert third.positions == [2, 1]
        await second.leave()
        assert third.is_inside
        await third.leave()
        assert (lobby.num_inside, lobby.num_waiting) == (0, 0)

    asyncio.run(run())


def test_one_that_gives_up_is_left_out() -> None:
    """A closed tab would hold up all behind it."""

    async def run() -> None:
        lobby = Lobby(1, 10)
        first, second, third = await visitors(lobby, 3)
        await second.give_up()
        assert third.positions == [2, 1]
        await first.leave()
        assert third.is_inside

    asyncio.run(run())


def test_a_place_that_comes_in_the_moment_of_giving_up_goes_on() -> None:
    """The place would be lost for good."""

    async def run() -> None:
        lobby = Lobby(1, 10)
        first, second = await visitors(lobby, 2)
        first._leaving.set()
        await first.task  # the place is given on, but the next one has not taken it yet
        second.task.cancel()
        await settle()
        assert (lobby.num_inside, lobby.num_waiting) == (0, 0)

    asyncio.run(run())


def test_a_queue_has_an_end() -> None:
    """Every waiting visitor costs memory and a connection."""

    async def run() -> None:
        _, _, third = await visitors(Lobby(1, 1), 3)
        with pytest.raises(ConnectionRefusedError, match="try again later"):
            await third.task

    asyncio.run(run())
