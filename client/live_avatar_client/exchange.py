"""Requests of one session against their answers: order, room, patience, failure and farewell.

Triton's facts behind this file (measured): empty final responses arrive only when asked for;
several requests of one sequence may be open together; a client that leaves is noticed only
through an open request.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from live_avatar_client.ledger import Ledger
from live_avatar_client.pauses import Pauses
from live_avatar_client.protocol import SAMPLE_RATE, Array, AvatarError, Block, Wire, is_final
from live_avatar_client.requests import AUDIO, sound_of
from live_avatar_client.stream import Stream

_FAREWELL_S = 1.0  # how long closing waits for the answer to the END that frees the server's place
_KEEP_ALIVE_S = 3.0
"""Without a request for so long an empty one goes out; the server's idle limit is 10 s."""
_BEAT_S = 0.04


class Exchange:
    """One sequence on one stream, used by a sending, a taking and the stream's reading thread.

    `max_ahead_s`: sound that may be sent and not yet answered. `is_fed`: pauses are filled with
    silence. `timeout_s`: the longest silence of a server that owes an answer. The first error ends
    the session, and every later call raises it.
    """

    def __init__(
        self,
        *,
        url: str,
        wire: Wire,
        max_ahead_s: float,
        is_fed: bool,
        connect_timeout_s: float,
        timeout_s: float,
    ) -> None:
        self._url, self._wire, self._timeout_s = url, wire, timeout_s
        self._changed = threading.Condition()  # guards everything below
        self._ledger = Ledger(max_ahead=int(max_ahead_s * SAMPLE_RATE))
        self._pauses = Pauses(is_fed=is_fed)
        self._posted_s = self._sign_of_life_s = 0.0
        self._num_senders = 0
        self._closed = False
        self._is_gone = False  # nothing more is expected of the server
        self._error: Exception | None = None
        self._failure: BaseException | None = None
        self._stream = Stream(
            url=url,
            model=wire.model,
            connect_timeout_s=connect_timeout_s,
            on_response=self._on_response,
            on_end=self._on_end,
        )
        self._pulse = threading.Thread(target=self._beat, name="avatar-pulse", daemon=True)

    def start(self, tensors: Mapping[str, Array]) -> None:
        with self._changed:
            self._post(tensors, start=True)
        self._pulse.start()

    def send(self, tensors: Mapping[str, Array], *, until_taken: bool) -> None:
        """Send a request as soon as the ledger has room for its audio."""
        sound = sound_of(tensors)
        num_samples = 0 if sound is None else len(sound)
        with self._changed:
            self._check_sendable()
            self._num_senders += 1  # a sound that waits for room has not run out
            try:
                self._wait_for(lambda: self._ledger.has_room(num_samples, until_taken=until_taken))
            finally:
                self._num_senders -= 1
            self._check_sendable()
            self._post(tensors)

    def finish(self, failure: BaseException | None = None) -> None:
        """Send END, once. `failure` of the source of audio is raised behind the last block."""
        with self._changed:
            self._failure = self._failure or failure
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
            if (error := self._error or self._failure) is not None:
                raise error
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
        try:
            self.fail(AvatarError("the session was closed"))
            with self._changed:
                self._changed.wait_for(
                    lambda: self._ledger.is_complete or self._is_gone, timeout=_FAREWELL_S
                )
        finally:
            if not self._ledger.is_complete:
                self._stream.cancel()
            self._stream.close()
            if self._pulse.ident is not None:
                self._pulse.join()

    def _beat(self) -> None:
        """Fill pauses, and show the server that we are here; runs in a thread of its own."""
        with self._changed:
            while self._error is None and not self._ledger.finished:
                now_s = time.monotonic()
                silence = 0 if self._num_senders else self._pauses.due(now_s)
                if silence and self._ledger.has_room(silence, until_taken=True):
                    self._post({"audio_int16": np.zeros(silence, np.int16)}, is_silence=True)
                elif now_s - self._posted_s > _KEEP_ALIVE_S:
                    self._post({})
                self._changed.wait(_BEAT_S)

    # The methods below are called with the lock held.

    def _check_sendable(self) -> None:
        if self._error is not None:
            raise self._error
        if self._ledger.finished:
            raise RuntimeError("audio after finish(): this stream has ended, open a new session")

    def _post(
        self,
        tensors: Mapping[str, Array],
        *,
        start: bool = False,
        end: bool = False,
        is_silence: bool = False,
    ) -> None:
        request = self._wire.request(tensors, self._ledger.num_sent, start=start, end=end)
        self._posted_s = time.monotonic()
        if not self._ledger.num_open:
            self._sign_of_life_s = self._posted_s
        sound = sound_of(tensors)
        self._ledger.sent(sound, start=start, end=end)
        if sound is not None:
            self._pauses.sent(len(sound), self._posted_s, is_silence=is_silence)
        if not start and tensors.keys() - AUDIO:  # noise, features: they belong to certain blocks
            self._pauses.is_fed = False
        self._stream.send(request)
        self._changed.notify_all()  # who waits for an answer becomes impatient from now on

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        """Return when `ready` or failed; fail when the server owes an answer for too long."""
        while not ready() and self._error is None:
            patience_s = None
            if self._ledger.num_open:
                patience_s = self._sign_of_life_s + self._timeout_s - time.monotonic()
                if patience_s <= 0:
                    self._is_gone = True
                    self._fail(self._lost(f"was silent for {self._timeout_s:g} s"))
            self._changed.wait(patience_s)

    def _lost(self, what: str) -> AvatarError:
        return AvatarError(
            f"the server at {self._url} {what}, with {self._ledger.num_open} requests unanswered "
            f"after {self._ledger.num_blocks} blocks"
        )

    def _fail(self, error: Exception) -> None:
        """Keep the first error. The server sees a cancelled stream by a request that is open; if
        none is, END frees the place."""
        if self._error is not None:
            return
        self._error = error
        if self._is_gone or self._ledger.num_open or self._ledger.finished:
            self._is_gone = True
            self._stream.cancel()
        else:
            self._post({}, end=True)
        self._changed.notify_all()

    # The methods below are called from the stream's reading thread.

    def _on_response(self, message: Any) -> None:
        now_s = time.perf_counter()
        with self._changed:
            self._sign_of_life_s = time.monotonic()
            try:
                self._enter(message, now_s)
            except AvatarError as error:
                self._fail(error)
            self._changed.notify_all()

    def _enter(self, message: Any, now_s: float) -> None:
        response = message.infer_response
        if message.error_message:
            self._ledger.answered(response.id)
            if self._error is not None:  # this was the answer to our farewell
                self._is_gone = True
                self._stream.cancel()  # a server that is shutting down waits for a held START
            raise AvatarError(message.error_message)
        if self._error is None and (block := self._wire.block_from(response, now_s)):
            self._ledger.received(block)
        if is_final(response):
            self._ledger.answered(response.id)

    def _on_end(self, error: AvatarError | None) -> None:
        with self._changed:
            self._is_gone = True
            if not self._ledger.is_complete:
                self._fail(error or self._lost("ended the stream"))
            self._changed.notify_all()
