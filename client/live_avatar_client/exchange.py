"""Requests of one session against their answers: order, room, patience, failure and farewell.

Triton's facts behind this file (measured): empty final responses arrive only when asked for;
several requests of one sequence may be open together; a client that leaves is noticed only
through an open request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from live_avatar_client import protocol
from live_avatar_client.ledger import Ledger
from live_avatar_client.protocol import AvatarError, Block
from live_avatar_client.requests import num_samples
from live_avatar_client.stream import Stream

_FAREWELL_S = 1.0
"""How long closing waits for the answer to the END that frees the server's place."""


class Exchange:
    """One sequence on one stream, used by a sending, a taking and the stream's reading thread.

    `max_ahead`: samples that may be sent and not yet answered. `timeout_s`: the longest silence
    of a server that owes an answer. The first error is kept, cancels the stream, and is what every
    later call raises.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        sequence_id: int,
        outputs: Sequence[str],
        max_ahead: int,
        connect_timeout_s: float,
        timeout_s: float,
    ) -> None:
        self._url, self._model, self._outputs = url, model, tuple(outputs)
        self._sequence_id, self._timeout_s = sequence_id, timeout_s
        self._changed = threading.Condition()  # guards everything below
        self._ledger = Ledger(max_ahead=max_ahead)
        self._sign_of_life_s = 0.0
        self._closed = False
        self._error: Exception | None = None
        self._stream = Stream(
            url=url,
            model=model,
            connect_timeout_s=connect_timeout_s,
            on_response=self._on_response,
            on_end=self._on_end,
        )

    def start(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Send START."""
        with self._changed:
            self._post(tensors, start=True)

    def send(self, tensors: Mapping[str, np.ndarray], *, until_taken: bool) -> None:
        """Send a request as soon as the ledger has room for its audio."""
        samples = num_samples(tensors)
        with self._changed:
            self._check_sendable()
            self._wait_for(lambda: self._ledger.has_room(samples, until_taken=until_taken))
            self._check_sendable()
            self._post(tensors)

    def finish(self) -> None:
        """Send END, once."""
        with self._changed:
            if not self._ledger.finished:
                self._check_sendable()
                self._post({}, end=True)

    def take(self) -> Block | None:
        """The next block, when it is there; None at the end of the stream."""
        with self._changed:
            self._wait_for(lambda: bool(self._ledger.blocks) or self._ledger.is_complete)
            if self._ledger.blocks:
                self._changed.notify_all()
                return self._ledger.take()
            if self._error is not None:
                raise self._error
            return None

    def fail(self, error: Exception) -> None:
        """Stop here for this reason, unless everything has been answered."""
        with self._changed:
            if not self._ledger.is_complete:
                self._fail(error)

    def close(self) -> None:
        """End the stream and free the server's place; what is still being made is cancelled."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            if self._error is None and not self._ledger.finished and not self._ledger.num_open:
                # No request is open that a cancellation could reach: only END frees the place.
                self._post({}, end=True)
                self._changed.wait_for(self._is_over, timeout=_FAREWELL_S)
        self.fail(AvatarError("the session was closed"))
        self._stream.close()

    # The methods below are called with the lock held.

    def _is_over(self) -> bool:
        return self._ledger.is_complete or self._error is not None

    def _check_sendable(self) -> None:
        if self._error is not None:
            raise self._error
        if self._ledger.finished:
            raise RuntimeError("audio after finish(): this stream has ended, open a new session")

    def _post(
        self, tensors: Mapping[str, np.ndarray], *, start: bool = False, end: bool = False
    ) -> None:
        request = protocol.infer_request(
            tensors,
            sequence_id=self._sequence_id,
            request_id=str(self._ledger.num_sent),
            start=start,
            end=end,
            outputs=self._outputs,
            model=self._model,
        )
        if not self._ledger.num_open:
            self._sign_of_life_s = time.monotonic()
        self._ledger.sent(num_samples(tensors), end=end)
        self._stream.send(request)

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        """Return when `ready` or failed; fail when the server owes an answer for too long.

        With nothing owed there is no limit: then the wait is for the caller's own audio.
        """
        while not ready() and self._error is None:
            patience_s = None
            if self._ledger.num_open:
                patience_s = self._sign_of_life_s + self._timeout_s - time.monotonic()
                if patience_s <= 0:
                    self._fail(self._lost(f"was silent for {self._timeout_s:g} s"))
            self._changed.wait(patience_s)

    def _lost(self, what: str) -> AvatarError:
        return AvatarError(
            f"the server at {self._url} {what}, with {self._ledger.num_open} requests unanswered "
            f"after {self._ledger.num_blocks} blocks"
        )

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
            self._stream.cancel()
            self._changed.notify_all()

    # The methods below are called from the stream's reading thread.

    def _on_response(self, message: Any) -> None:
        now_s = time.perf_counter()
        with self._changed:
            if self._error is not None:
                return
            self._sign_of_life_s = time.monotonic()
            try:
                if message.error_message:
                    raise AvatarError(message.error_message)
                final = protocol.is_final(message.infer_response)
                block = protocol.block_from(message.infer_response, now_s)
                if block is not None:
                    self._ledger.received(block)
                self._ledger.num_open -= final
            except AvatarError as error:
                self._fail(error)
            self._changed.notify_all()

    def _on_end(self, error: AvatarError | None) -> None:
        with self._changed:
            if not self._ledger.is_complete:
                self._fail(error or self._lost("ended the stream"))
