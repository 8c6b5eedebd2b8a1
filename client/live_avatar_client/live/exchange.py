"""Requests of one live session against their answers, driven by an event loop; the rules are those
of `Sequence` and `Tries`."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from live_avatar_client.live.connection import Connection
from live_avatar_client.live.orders import Order
from live_avatar_client.protocol import Array, AvatarError, Block, is_final
from live_avatar_client.resume import Tries, is_loss
from live_avatar_client.sequence import FAREWELL_S, LEAVE_S, Sequence
from live_avatar_client.tls import Tls

ASK_S = 1.0
"""A server that owes a block for so long is asked whether it still has the session."""

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class LiveExchange:
    """`on_block` is called with every block, and may raise ValueError; `on_end` once, when the
    first error has ended the sequence. With `tries`, what may pass is tried again: `on_lost` is
    called when a server is lost, `on_anew` when START is to go to the next one. Made and used in
    one event loop."""

    sequence: Sequence
    connection: Connection
    connect_timeout_s: float
    tls: Tls | None
    tries: Tries | None
    on_block: Callable[[Block], None]
    on_lost: Callable[[], None]
    on_anew: Callable[[], None]
    on_end: Callable[[], None]
    is_away: bool = False  # between a server that was lost and the next one

    def __post_init__(self) -> None:
        self._asked: dict[str, asyncio.Future[None]] = {}  # by the id of the request
        self._reading = asyncio.create_task(self._read())
        self._resuming: asyncio.Task[None] | None = None

    def post(self, tensors: Mapping[str, Array], *, start: bool = False, end: bool = False) -> None:
        """Send a request."""
        request = self.sequence.request(tensors, time.monotonic(), start=start, end=end)
        self.connection.send(request)

    def order(self, order: Order) -> None:
        """Send the sound of a block that is to be made, or made again."""
        tensors: dict[str, Array] = {"audio_int16": order.sound}
        if order.interrupt is not None:
            ledger = self.sequence.ledger
            block = order.interrupt - ledger.first_block
            tensors["interrupt"] = np.array([block], np.int64)
            ledger.interrupted(order.interrupt)
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

    def is_old(self, block: Block) -> bool:
        """Whether a block was made before the last order was heard, and will come again."""
        return self.sequence.ledger.is_old(block)

    def check_patience(self, now_s: float) -> None:
        """Ask a server that owes an answer; give one up that owes it for too long."""
        patience_s = self.sequence.patience_s(now_s)
        if patience_s is None or self.is_away:
            return
        if patience_s <= 0:
            self._fail(self.sequence.silent())
        elif now_s - self.sequence.posted_s > ASK_S:
            self.post({})

    async def close(self) -> None:
        """End the sequence and free the server's place; what is still being made is cancelled."""
        self._fail(AvatarError("the session was closed"))
        if self._resuming is not None:
            self._resuming.cancel()
            await asyncio.gather(self._resuming, return_exceptions=True)
        await asyncio.wait([self._reading], timeout=FAREWELL_S)
        await self.connection.close()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        connection = self.connection
        try:
            async for message in connection.messages():
                self._enter(message)
                if self.sequence.ledger.is_complete or self.is_away:
                    return
            error = self.sequence.lost("ended the stream")
        except AvatarError as broken:
            error = broken
        except Exception as unexpected:
            url = self.sequence.url
            error = AvatarError(f"an answer of {url} could not be used: {unexpected!r}")
        if self.is_away or connection is not self.connection:
            return
        self.sequence.is_gone = True
        self._fail(error)

    async def _resume(self, wait_s: float | None) -> None:
        """Connect anew, perhaps to another server."""
        await self.connection.close(LEAVE_S)
        url, model = self.sequence.url, self.sequence.wire.model
        while wait_s is not None:
            await asyncio.sleep(wait_s)
            connection = Connection()
            try:
                await connection.open(url, model, self.connect_timeout_s, self.tls)
            except AvatarError as error:
                failure, wait_s = error, self._wait_s(error)
                continue
            self.connection, self.is_away = connection, False
            self._reading = asyncio.create_task(self._read())
            self.on_anew()
            return
        self._give_up(failure)

    def _wait_s(self, error: Exception) -> float | None:
        """Seconds until the next try after this error; None if there is none."""
        if self.tries is None:
            return None
        wait_s = self.tries.wait_s(error, self.sequence.ledger.num_blocks, time.monotonic())
        if wait_s is not None:
            logger.warning("%s; trying again in %.1f s", error, wait_s)
        return wait_s

    def _enter(self, message: Any) -> None:
        answer = self._asked.get(message.infer_response.id)
        if answer is not None and message.error_message:
            self.sequence.ledger.answered(message.infer_response.id)
            _settle(answer, AvatarError(message.error_message))
            if not is_loss(message.error_message):
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
        """Try again, or keep the first error and leave the server."""
        if self.sequence.error is not None:
            return
        wait_s = self._wait_s(error)
        if wait_s is None:
            self._give_up(error)
            return
        for answer in self._asked.values():
            _settle(answer, AvatarError(str(error)))
        if not self.sequence.ledger.num_open:  # as in `Sequence.fail`
            self.post({}, end=True)
        self.is_away = True
        self.on_lost()
        self.sequence.begin_anew()
        self._resuming = asyncio.create_task(self._resume(wait_s))

    def _give_up(self, error: Exception) -> None:
        """Keep the error, with the way back."""
        error = error if self.tries is None else self.tries.last(error)
        has_begun = self.sequence.ledger.num_blocks > 0
        way_back = "is over, open a new session to go on" if has_begun else "did not begin"
        final = AvatarError(f"{error}; this conversation {way_back}")
        for answer in self._asked.values():
            _settle(answer, final)
        if self.is_away:
            self.sequence.is_gone = True
            self.sequence.error = final
        elif self.sequence.fail(final):
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
