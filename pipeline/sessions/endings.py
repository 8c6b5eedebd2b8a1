"""Why sessions are not open any more, for requests that come too late."""

from collections import OrderedDict

MAX_ENDINGS = 4096
"""Sessions whose ending is remembered; at 1 kB each that is 4 MB."""
_MAX_WORDS = 1000


class Endings:
    """The last `MAX_ENDINGS` sessions and what ended each; of refused STARTs, too."""

    def __init__(self) -> None:
        self._words: OrderedDict[int, str] = OrderedDict()

    def remember(self, session: int, words: str) -> None:
        """Keep why `session` ended; the oldest ending makes room."""
        self._words.pop(session, None)
        self._words[session] = words[:_MAX_WORDS]
        while len(self._words) > MAX_ENDINGS:
            self._words.popitem(last=False)

    def of(self, session: int) -> str:
        """Why `session` is not open, in words for its client."""
        return self._words.get(session, f"session {session} is not open; open it with START")


def ended(session: int) -> str:
    """The ending of a session that went well."""
    return f"session {session} has ended; open a new one with START"
