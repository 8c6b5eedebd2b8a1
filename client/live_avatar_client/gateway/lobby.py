"""Places of the server, and those who wait for one: first come, first served."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Lobby:
    """`num_places` visitors are inside, up to `max_waiting` wait."""

    def __init__(self, num_places: int, max_waiting: int) -> None:
        self.num_places, self._max_waiting = num_places, max_waiting
        self._num_free = num_places
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[int], None]]] = deque()

    @property
    def num_inside(self) -> int:
        return self.num_places - self._num_free

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, told: Callable[[int], None]) -> AsyncIterator[None]:
        """Hold a place inside. While one waits, `told` hears the position, 1 for the next one, at
        once and whenever it changes. ConnectionRefusedError where too many wait already."""
        if self._num_free:
            self._num_free -= 1
        else:
            await self._wait(told)
        try:
            yield
        finally:
            self._give_on()

    async def _wait(self, told: Callable[[int], None]) -> None:
        if len(self._waiting) >= self._max_waiting:
            raise ConnectionRefusedError(
                f"all {self.num_places} places are taken and {len(self._waiting)} visitors wait: "
                "try again later"
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (turn, told)
        self._waiting.append(entry)
        told(len(self._waiting))
        try:
            await turn
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._tell()
            else:  # the place came in the very moment
                self._give_on()
            raise

    def _give_on(self) -> None:
        """A place is free: the first of those who wait gets it."""
        if not self._waiting:
            self._num_free += 1
            return
        turn, _ = self._waiting.popleft()
        turn.set_result(None)
        self._tell()

    def _tell(self) -> None:
        for position, (_, told) in enumerate(self._waiting, 1):
            told(position)
