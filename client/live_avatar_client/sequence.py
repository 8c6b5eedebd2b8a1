"""The rules of one sequence, whoever drives it: what its requests are, what an answer means, how
long an answer may take, and what a failure needs. No wire, no thread, no clock.

Triton's facts behind this file (measured): empty final responses arrive only when asked for;
several requests of one sequence may be open together; a client that leaves is noticed only
through an open request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from live_avatar_client.ledger import Ledger
from live_avatar_client.protocol import Array, AvatarError, UnavailableError, Wire, is_final
from live_avatar_client.requests import sound_of
from live_avatar_client.resume import refusal

FAREWELL_S = 1.0
"""How long closing waits for the answer to the END that frees the server's place."""
LEAVE_S = 0.2
"""The same for a server that refused us, before another try."""


@dataclass(kw_only=True, eq=False)
class Sequence:
    """`timeout_s`: the longest silence of a server that owes an answer. Times are seconds of one
    monotonic clock. The first error ends the sequence."""

    url: str
    wire: Wire
    ledger: Ledger
    timeout_s: float
    error: Exception | None = None
    is_gone: bool = False  # nothing more is expected of the server
    posted_s: float = 0.0
    sign_of_life_s: float = 0.0

    def request(
        self,
        tensors: Mapping[str, Array],
        now_s: float,
        *,
        start: bool = False,
        end: bool = False,
    ) -> Any:
        """The next `ModelInferRequest`, entered as sent. It says how many blocks were taken, so
        that the server makes no more than somebody reads."""
        if not start:
            tensors = {**tensors, "received": np.array([self.ledger.num_taken], np.int64)}
        request = self.wire.request(tensors, self.ledger.num_sent, start=start, end=end)
        self.posted_s = now_s
        if not self.ledger.num_open:
            self.sign_of_life_s = now_s
        self.ledger.sent(sound_of(tensors), start=start, end=end)
        return request

    def enter(self, message: Any, received_s: float, now_s: float) -> None:
        """Enter a `ModelStreamInferResponse`; AvatarError with the server's words, or ours for a
        block that is not due. `received_s` is that of `Block`."""
        self.sign_of_life_s = now_s
        response = message.infer_response
        if message.error_message:
            self.ledger.answered(response.id)
            if self.error is not None:  # this was the answer to our farewell
                self.is_gone = True
            raise refusal(message.error_message)
        if self.error is None and (block := self.wire.block_from(response, received_s)):
            self.ledger.received(block)
        if is_final(response):
            self.ledger.answered(response.id)

    def patience_s(self, now_s: float) -> float | None:
        """Seconds until an answer that is owed comes too late; None where none is owed."""
        if not self.ledger.num_open:
            return None
        return self.sign_of_life_s + self.timeout_s - now_s

    def lost(self, what: str) -> AvatarError:
        return UnavailableError(
            f"the server at {self.url} {what}, with {self.ledger.num_open} requests unanswered "
            f"after {self.ledger.num_blocks} blocks"
        )

    def silent(self) -> AvatarError:
        """The error of a server whose patience has run out."""
        self.is_gone = True
        return self.lost(f"was silent for {self.timeout_s:g} s")

    def begin_anew(self) -> Array:
        """Another sequence follows, perhaps at another server; see `Ledger.begin_anew`."""
        self.wire = self.wire.renewed()
        self.is_gone = False
        return self.ledger.begin_anew()

    def fail(self, error: Exception) -> bool:
        """Keep the error. True: END must be sent, for nothing is open by which the server would
        see that we leave. False: cancel the stream."""
        assert self.error is None
        self.error = error
        if self.ledger.num_open or self.ledger.finished:
            self.is_gone = True
        return not self.is_gone
