"""Another try: which errors pass, how long to wait, and when to give up. No wire, no thread.

A server that is lost takes its session with it. The session is begun anew, at the first block that
has not come, with the same START and the sound from there on. So the sound has no gap. The picture
jumps once: the new session begins with the image that START brought.
"""

import random
from dataclasses import dataclass

from live_avatar_client.protocol import AvatarError, UnavailableError

GIVE_UP_S = 30.0
"""Tries without a block in between end after so long, unless told otherwise."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0
_PASSING = (
    "try again",  # all places are in use, or the server is still loading its models
    "try another server",  # it is being drained
    "is shutting down",
    "is not open",  # live_avatar came back without its sessions; what follows says Triton then
    "must specify the START flag",
    "is not healthy",  # this and what follows: Triton's words for a model that died or is away
    "no available versions",
    "unknown model",
    "not ready",
)


def refusal(words: str) -> AvatarError:
    """The error of a server that said so: an UnavailableError if another try may do."""
    passes = any(mark in words for mark in _PASSING)
    return UnavailableError(words) if passes else AvatarError(words)


def is_loss(words: str) -> bool:
    """Whether a server that said so has lost the session, whatever it was asked."""
    return any(mark in words for mark in ("is not open", "must specify the START flag"))


@dataclass(slots=True)
class Tries:
    """Since the newest block. Times are seconds of one monotonic clock."""

    give_up_s: float = GIVE_UP_S
    num_blocks: int = -1
    num_tries: int = 0
    _began_s: float = 0.0

    def wait_s(self, error: Exception, num_blocks: int, now_s: float) -> float | None:
        """Seconds until the next try of a session that has had so many blocks and failed with this
        error; None if there is none. Waits double, and differ from client to client: those of a
        server that died come back one after the other."""
        if not isinstance(error, UnavailableError):
            return None
        if num_blocks != self.num_blocks:
            self.num_blocks, self.num_tries, self._began_s = num_blocks, 0, now_s
        if now_s - self._began_s > self.give_up_s:
            return None
        longest_s = min(FIRST_WAIT_S * 2.0**self.num_tries, LONGEST_WAIT_S)
        self.num_tries += 1
        return longest_s * random.uniform(0.5, 1.0)

    def last(self, error: Exception) -> Exception:
        """The error of a session that is given up, with the number of tries if there were any."""
        if not isinstance(error, UnavailableError) or not self.num_tries:
            return error
        return AvatarError(f"{error}; given up after {self.num_tries} tries")
