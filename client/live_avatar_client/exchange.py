"""Requests of one session against their answers, driven by threads: room, pauses, failure and
farewell. The rules are those of `Sequence`.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from live_avatar_client.ledger import Ledger, Pauses
from live_avatar_client.protocol import SAMPLE_RATE, Array, AvatarError, Block, Wire
from live_avatar_client.requests import AUDIO, sound_of
from live_avatar_client.sequence import FAREWELL_S, Sequence
from live_avatar_client.stream import Stream
from live_avatar_client.tls import Tls

_KEEP_ALIVE_S = 3.0
"""Without a request for so long an empty one goes out; the server's idle limit is 10 s."""
_BEAT_S = 0.04


@dataclass(kw_only=True, eq=False)
class Exchange:
    """One sequence on one stream, used by a sending, a taking and the stream's reading thread.

    `max_ahead_s`: sound that may be sent and not yet answered. `is_fed`: pauses are filled with
    silence. `timeout_s`: the longest silence of a server that owes an answer. The first error ends
    the session, and every later call raises it.
    """

    url: str
    wire: Wire
    max_ahead_s: float
    is_fed: bool
    connect_timeout_s: float
    timeout_s: float
    tls: Tls | None = None

    def __post_init__(self) -> None:
        self._changed = threading.Condition()  # guards everything below
        self._ledger = Ledger(max_ahead=int(self.max_ahead_s * SAMPLE_RATE))
        self._sequence = Sequence(
            url=self.url, wire=self.wire, ledger=self._ledger, timeout_s=self.timeout_s
        )
        self._pauses = Pauses(is_fed=self.is_fed)
        self._num_senders = 0
        self._closed = False
        self._failure: BaseException | None = None
        self._stream = Stream(
            url=self.url,
            model=self.wire.model,
            connect_timeout_s=self.connect_timeout_s,
            on_response=self._on_response,
            on_end=self._on_end,
            tls=self.tls,
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
            if (error := self._sequence.error or self._failure) is not None:
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
                    lambda: self._ledger.is_complete or self._sequence.is_gone, timeout=FAREWELL_S
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
            while self._sequence.error is None and not self._ledger.finished:
                now_s = time.monotonic()
                silence = 0 if self._num_senders else self._pauses.due(now_s)
                if silence and self._ledger.has_room(silence, until_taken=True):
                    self._post({"audio_int16": np.zeros(silence, np.int16)}, is_silence=True)
                elif now_s - self._sequence.posted_s > _KEEP_ALIVE_S:
                    self._post({})
                self._changed.wait(_BEAT_S)

    # The methods below are called with the lock held.

    def _check_sendable(self) -> None:
        if self._sequence.error is not None:
            raise self._sequence.error
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
        now_s = time.monotonic()
        request = self._sequence.request(tensors, now_s, start=start, end=end)
        if (sound := sound_of(tensors)) is not None:
            self._pauses.sent(len(sound), now_s, is_silence=is_silence)
        if not start and tensors.keys() - AUDIO:  # noise, features: they belong to certain blocks
            self._pauses.is_fed = False
        self._stream.send(request)
        self._changed.notify_all()  # who waits for an answer becomes impatient from now on

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        """Return when `ready` or failed; fail when the server owes an answer for too long."""
        while not ready() and self._sequence.error is None:
            patience_s = self._sequence.patience_s(time.monotonic())
            if patience_s is not None and patience_s <= 0:
                self._fail(self._sequence.silent())
            self._changed.wait(patience_s)

    def _fail(self, error: Exception) -> None:
        """Keep the first error, and leave the server."""
        if self._sequence.error is not None:
            return
        if self._sequence.fail(error):
            self._post({}, end=True)
        else:
            self._stream.cancel()
        self._changed.notify_all()

    # The methods below are called from the stream's reading thread.

    def _on_response(self, message: Any) -> None:
        received_s = time.perf_counter()
        with self._changed:
            try:
                self._sequence.enter(message, received_s, time.monotonic())
            except AvatarError as error:
                if self._sequence.is_gone:
                    self._stream.cancel()  # a server that is shutting down waits for a held START
                self._fail(error)
            self._changed.notify_all()

    def _on_end(self, error: AvatarError | None) -> None:
        with self._changed:
            self._sequence.is_gone = True
            if not self._ledger.is_complete:
                self._fail(error or self._sequence.lost("ended the stream"))
            self._changed.notify_all()
