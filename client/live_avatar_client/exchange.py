"""Requests of one session against their answers, driven by threads: room, pauses, failure, another
try and farewell. The rules are those of `Sequence` and `Tries`.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from live_avatar_client.ledger import Ledger, Pauses
from live_avatar_client.protocol import FPS, SAMPLE_RATE, Array, AvatarError, Block, Wire
from live_avatar_client.requests import AUDIO, audio_tensors, sound_of
from live_avatar_client.resume import Tries
from live_avatar_client.sequence import FAREWELL_S, LEAVE_S, Sequence
from live_avatar_client.stream import Stream
from live_avatar_client.tls import Tls

logger = logging.getLogger(__name__)

_KEEP_ALIVE_S = 3.0
"""Without a request for so long an empty one goes out; the server's idle limit is 10 s."""
_BEAT_S = 0.04
FIRST_TRIES = 3  # before a session has begun
_NOBODY = ("failed to connect", "DNS resolution", "deadline_exceeded")
"""In gRPC's words of an address at which nobody is."""


@dataclass(kw_only=True, eq=False)
class Exchange:
    """One sequence on one stream, used by a sending, a taking and the stream's reading thread.

    `max_ahead_s`: sound that may be sent and not yet answered. `is_fed`: pauses are filled with
    silence. `timeout_s`: the longest silence of a server that owes an answer. `resumes`: what may
    pass is tried again, see `Tries`. Any other error ends the session, and every later call raises
    it.
    """

    url: str
    wire: Wire
    max_ahead_s: float
    is_fed: bool
    connect_timeout_s: float
    timeout_s: float
    resumes: bool
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
        self._tries = Tries() if self.resumes else None
        self._is_away = False  # between a server that was lost and the next one
        self._start: Mapping[str, Array] = {}
        self._unanswered: tuple[Array, bool] = (np.empty(0, np.float32), False)  # and whether ended
        self._kept: list[dict[str, Array]] = []  # requests behind START, until the first block
        self._is_bound = False  # sound alone is not what it was sent
        self._num_streams = 0
        self._stream = self._connect_first()
        self._pulse = threading.Thread(target=self._beat, name="avatar-pulse", daemon=True)
        self._resuming: threading.Thread | None = None

    def _connect(self) -> Stream:
        self._num_streams += 1  # what the streams before it still say is not listened to
        return Stream(
            url=self.url,
            model=self.wire.model,
            connect_timeout_s=self.connect_timeout_s,
            on_response=functools.partial(self._on_response, self._num_streams),
            on_end=functools.partial(self._on_end, self._num_streams),
            tls=self.tls,
        )

    def _connect_first(self) -> Stream:
        """A balancer's server may die under the first call. Who opens a session waits, so the tries
        are few, and none where nobody is."""
        for _ in range(FIRST_TRIES if self.resumes else 0):
            try:
                return self._connect()
            except AvatarError as error:
                is_there = not any(words in str(error) for words in _NOBODY)
                wait_s = self._wait_s(error) if is_there else None
                if wait_s is None:
                    raise
            time.sleep(wait_s)
        return self._connect()

    def start(self, tensors: Mapping[str, Array]) -> None:
        with self._changed:
            self._start = tensors
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
                self._wait_for(lambda: self._has_room(num_samples, until_taken=until_taken))
            finally:
                self._num_senders -= 1
            self._check_sendable()
            self._post(tensors)

    def finish(self, failure: BaseException | None = None) -> None:
        """Send END, once. `failure` of the source of audio is raised behind the last block."""
        with self._changed:
            self._failure = self._failure or failure
            self._wait_for(lambda: not self._is_away)
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
            if self._resuming is not None:
                self._resuming.join()
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
                if silence and self._has_room(silence, until_taken=True):
                    self._post({"audio_int16": np.zeros(silence, np.int16)}, is_silence=True)
                elif not self._is_away and now_s - self._sequence.posted_s > _KEEP_ALIVE_S:
                    self._post({})
                self._changed.wait(_BEAT_S)

    def _resume(self, wait_s: float) -> None:
        """Begin anew, perhaps at another server; runs in a thread of its own."""
        self._stream.close(LEAVE_S)
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._sequence.error is not None, wait_s):
                    return
            stream, error = self._try_to_connect()
            with self._changed:
                if stream is not None and not stream.is_over:
                    self._stream = stream
                    if self._sequence.error is None:
                        self._begin_anew()
                    return
                error = error or self._sequence.lost("ended the stream")
                next_s = self._wait_s(error)
                if next_s is None:
                    self._give_up(error)
                    return
                wait_s = next_s

    def _try_to_connect(self) -> tuple[Stream | None, AvatarError | None]:
        try:
            return self._connect(), None
        except AvatarError as error:
            return None, error

    # The methods below are called with the lock held.

    def _has_room(self, num_samples: int, *, until_taken: bool) -> bool:
        room = self._ledger.has_room(num_samples, until_taken=until_taken)
        return room and not self._is_away

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
        if (sound := sound_of(tensors)) is not None:
            self._pauses.sent(len(sound), time.monotonic(), is_silence=is_silence)
        if not start and tensors.keys() - AUDIO:  # rows, pose, noise: they belong to certain blocks
            self._pauses.is_fed = False
            self._is_bound = True
        if tensors and not start and self._tries is not None:  # copies: microphones fill one buffer
            self._kept.append({name: array.copy() for name, array in tensors.items()})
        self._forget()
        self._put(tensors, start=start, end=end)

    def _forget(self) -> None:
        """From the first block on, sound alone can be sent once more: what belongs to certain
        blocks, and is no sound, would have to be kept for the whole session."""
        if self._ledger.num_blocks:
            self._kept.clear()
            if self._is_bound:
                self._tries = None

    def _put(self, tensors: Mapping[str, Array], *, start: bool = False, end: bool = False) -> None:
        request = self._sequence.request(tensors, time.monotonic(), start=start, end=end)
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
        """Try again, or keep the first error and leave the server."""
        if self._sequence.error is not None:
            return
        wait_s = self._wait_s(error)
        if wait_s is None:
            self._give_up(error)
        elif self._ledger.finished and not (self._ledger.mirror or self._kept):
            # all has come but the farewell
            self._ledger.num_open, self._ledger.is_held = 0, False
            self._sequence.is_gone = True
        else:
            ended = self._ledger.finished
            if not (ended or self._ledger.num_open):  # as in `Sequence.fail`
                self._put({}, end=True)
            self._is_away = True
            self._unanswered = self._sequence.begin_anew(), ended
            self._resuming = threading.Thread(
                target=self._resume, args=(wait_s,), name="avatar-resume", daemon=True
            )
            self._resuming.start()
        self._changed.notify_all()

    def _give_up(self, error: Exception) -> None:
        error = error if self._tries is None else self._tries.last(error)
        is_polite = self._sequence.fail(error)
        if self._is_away:
            self._sequence.is_gone = True
        elif is_polite:
            self._put({}, end=True)
        else:
            self._stream.cancel()
        self._changed.notify_all()

    def _wait_s(self, error: Exception) -> float | None:
        """Seconds until the next try after this error; None if there is none."""
        if self._tries is None:
            return None
        wait_s = self._tries.wait_s(error, self._ledger.num_blocks, time.monotonic())
        if wait_s is not None:
            at_s = self._ledger.frames_received / FPS
            logger.warning("%s; trying again in %.1f s, from %.2f s on", error, wait_s, at_s)
        return wait_s

    def _begin_anew(self) -> None:
        sound, ended = self._unanswered
        self._is_away = False
        self._put(self._start, start=True)
        for tensors in self._kept or audio_tensors(sound):
            self._put(tensors)
        if ended:
            self._put({}, end=True)

    # The methods below are called from the stream's reading thread.

    def _on_response(self, stream: int, message: Any) -> None:
        received_s = time.perf_counter()
        with self._changed:
            if stream != self._num_streams or self._is_away:
                return
            try:
                self._sequence.enter(message, received_s, time.monotonic())
                self._forget()
            except AvatarError as error:
                if self._sequence.is_gone:
                    self._stream.cancel()  # a server that is shutting down waits for a held START
                self._fail(error)
            self._changed.notify_all()

    def _on_end(self, stream: int, error: AvatarError | None) -> None:
        with self._changed:
            if stream != self._num_streams or self._is_away:
                return
            self._sequence.is_gone = True
            if not self._ledger.is_complete:
                self._fail(error or self._sequence.lost("ended the stream"))
            self._changed.notify_all()
