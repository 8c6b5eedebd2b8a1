"""Requests of one live session against their answers, driven by an event loop; the rules are those
of `Sequence`."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from live_avatar_client.live.connection import Connection
from live_avatar_client.live.plan import Order
from live_avatar_client.protocol import Array, AvatarError, Block, is_final
from live_avatar_client.sequence import FAREWELL_S, Sequence


@dataclass(kw_only=True, eq=False)
class LiveExchange:
    """`on_block` is called with every block, and may raise ValueError; `on_end` once, when the
    first error has ended the sequence. Made and used in one event loop."""

    sequence: Sequence
    connection: Connection
    on_block: Callable[[Block], None]
    on_end: Callable[[], None]

    def __post_init__(self) -> None:
        self._asked: dict[str, asyncio.Future[None]] = {}  # by the id of the request
        self._reading = asyncio.create_task(self._read())

    def post(self, tensors: Mapping[str, Array], *, start: bool = False, end: bool = False) -> None:
        """Send a request."""
        request = self.sequence.request(tensors, time.monotonic(), start=start, end=end)
        self.connection.send(request)

    def order(self, order: Order) -> None:
        """Send the sound of a block that is to be made, or made again."""
        tensors: dict[str, Array] = {"audio_int16": order.sound}
        if order.interrupt is not None:
            tensors["interrupt"] = np.array([order.interrupt], np.int64)
            if order.interrupt < self.sequence.ledger.num_blocks:
                self.sequence.ledger.take_back()
        self.post(tensors)

    async def ask(self, tensors: Mapping[str, Array]) -> None:
        """Send a request that the server may refuse, and wait for its answer; AvatarError with the
        server's words then, and the session goes on."""
        number = str(self.sequence.ledger.num_sent)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self.post(tensors)
        try:
            await answer
        finally:
            del self._asked[number]

    def check_patience(self, now_s: float) -> None:
        """Give a server up that owes an answer for too long."""
        patience_s = self.sequence.patience_s(now_s)
        if patience_s is not None and patience_s <= 0:
            self._fail(self.sequence.silent())

    async def close(self) -> None:
        """End the sequence and free the server's place; what is still being made is cancelled."""
        self._fail(AvatarError("the session was closed"))
        await asyncio.wait([self._reading], timeout=FAREWELL_S)
        await self.connection.close()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for message in self.connection.messages():
                self._enter(message)
                if self.sequence.ledger.is_complete:
                    return
            error = self.sequence.lost("ended the stream")
        except AvatarError as broken:
            error = broken
        except Exception as unexpected:
            url = self.sequence.url
            error = AvatarError(f"an answer of {url} could not be used: {unexpected!r}")
        self.sequence.is_gone = True
        self._fail(error)

    def _enter(self, message: Any) -> None:
        answer = self._asked.get(message.infer_response.id)
        if answer is not None and message.error_message:
            self.sequence.ledger.answered(message.infer_response.id)
            _settle(answer, AvatarError(message.error_message))
            return
        if answer is not None and is_final(message.infer_response):
            _settle(answer, None)
        try:
            self.sequence.enter(message, time.perf_counter(), time.monotonic())
            while self.sequence.ledger.blocks:
                self.on_block(self.sequence.ledger.take())
        except (AvatarError, ValueError) as error:
            if self.sequence.is_gone:
                self.connection.cancel()  # a server that is shutting down waits for a held START
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Keep the first error, with the way back, and leave the server."""
        if self.sequence.error is not None:
            return
        final = AvatarError(f"{error}; this conversation is over, open a new session to go on")
        for answer in self._asked.values():
            _settle(answer, final)
        if self.sequence.fail(final):
            self.post({}, end=True)
        else:
            self.connection.cancel()
        self.on_end()


def _settle(answer: asyncio.Future[None], error: AvatarError | None) -> None:
    if not answer.done():
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
