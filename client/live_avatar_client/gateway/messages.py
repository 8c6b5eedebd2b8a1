"""What a page says on its WebSocket: one JSON object a message, checked, with a bounded size.

Binary messages carry the microphone of a page without WebRTC: int16 mono samples.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from live_avatar_client.files import shown
from live_avatar_client.gateway.settings import MAX_PROMPT, MAX_SENTENCE

MAX_MESSAGE_BYTES = 2**18
"""A second of a microphone's samples is 96 kB, an offer of WebRTC some 10 kB."""
TRANSPORTS = ("webrtc", "mp4")
SHOWS = ("face", "film")
"""Of `live_avatar`, which talks, and of `rolling_forcing`, which is made of a prompt."""
RATES = range(8_000, 192_001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """`portrait` is the name of a shipped one; without it the uploaded picture is taken. A film
    needs none."""

    transport: str
    show: str = "face"
    portrait: str | None = None
    prompt: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_choice("transport", self.transport, TRANSPORTS)
        _check_choice("show", self.show, SHOWS)
        _check_text("portrait", self.portrait, 200)
        _check_text("prompt", self.prompt, MAX_PROMPT)
        if self.seed is not None:
            _check_number("seed", self.seed, range(2**53))


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Of the page's `RTCPeerConnection`."""

    sdp: str

    def __post_init__(self) -> None:
        _check_text("sdp", self.sdp, MAX_MESSAGE_BYTES, at_least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """The page wants what follows by the other way."""

    transport: str

    def __post_init__(self) -> None:
        _check_choice("transport", self.transport, TRANSPORTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Microphone:
    """Whether it is open, and the rate of the samples in binary messages."""

    on: bool
    rate: int = 48_000

    def __post_init__(self) -> None:
        if not isinstance(self.on, bool):
            raise ValueError(f"on is {shown(self.on)}, expected true or false")
        _check_number("rate", self.rate, RATES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """A sentence for the face."""

    text: str

    def __post_init__(self) -> None:
        _check_text("text", self.text, MAX_SENTENCE, at_least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the video shows from now on, in words."""

    text: str

    def __post_init__(self) -> None:
        _check_text("text", self.text, MAX_PROMPT, at_least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """The face falls silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The visitor leaves."""


Message = Start | Offer | Transport | Microphone | Say | Prompt | Interrupt | End
_KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (Start, Offer, Transport, Microphone, Say, Prompt, Interrupt, End)
}


def parsed(text: str) -> Message:
    """The message that a page sent; ValueError with words for it where it is none."""
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"a message is {shown(text, 80)}, expected JSON") from None
    if not isinstance(fields, dict):
        raise ValueError(f"a message is {shown(text, 80)}, expected a JSON object")
    name = fields.pop("type", None)
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"a message has the type {shown(name, 80)}, expected {', '.join(_KINDS)}")
    known = dataclasses.fields(kind)
    if odd := fields.keys() - {field.name for field in known}:
        raise ValueError(f"{name} has no {shown(sorted(odd)[0], 80)}")
    needed = {field.name for field in known if field.default is dataclasses.MISSING}
    if missing := needed - fields.keys():
        raise ValueError(f"{name} lacks {sorted(missing)[0]}")
    try:
        return kind(**fields)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _check_text(name: str, text: object, longest: int, at_least: int = 0) -> None:
    if text is None and not at_least:
        return
    if not isinstance(text, str) or not at_least <= len(text) <= longest:
        what = f"{len(text)} characters" if isinstance(text, str) else shown(text, 80)
        raise ValueError(f"{name} is {what}, expected a text of {at_least} to {longest}")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{name} has half of a letter (a lone surrogate), expected whole ones")


def _check_number(name: str, number: object, allowed: range) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number not in allowed:
        raise ValueError(
            f"{name} is {shown(number, 80)}, expected a whole number from {allowed[0]} to "
            f"{allowed[-1]}"
        )


def _check_choice(name: str, given: object, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise ValueError(f"{name} is {shown(given, 80)}, expected {' or '.join(choices)}")
