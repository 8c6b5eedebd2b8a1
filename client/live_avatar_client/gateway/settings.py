"""What `live-avatar gateway` was told, checked before anything is opened."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from live_avatar_client.protocol import DEFAULT_URL, MODEL
from live_avatar_client.provenance.mark import Mark
from live_avatar_client.tls import Tls

MAX_PROMPT, MAX_SENTENCE = 2000, 1000
"""Characters that a visitor may type."""
MAX_UPLOAD_BYTES = 32 * 2**20
_ICE_SCHEMES = ("stun:", "stuns:", "turn:", "turns:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`max_visitors` None: as many as the server has sessions. `origins`: of other pages that may
    use this gateway. `secret`: who comes needs a token made with it. `ice`: STUN and TURN servers,
    as browsers take them. `say_program` reads text and writes a sound file. `server_tls`: what a
    server with TLS is to be trusted by. `mark`: put into every picture."""

    url: str = DEFAULT_URL
    model: str = MODEL
    host: str = "127.0.0.1"
    port: int = 8080
    portraits: Path | None = None
    max_visitors: int | None = None
    max_waiting: int = 50
    origins: tuple[str, ...] = ()
    secret: bytes | None = None
    ice: tuple[dict[str, str], ...] = ()
    say_program: tuple[str, ...] = ()
    server_tls: Tls | None = None
    mark: Mark | None = None

    def __post_init__(self) -> None:
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
                raise ValueError(f"--origin is {origin!r}, expected such as https://example.org")
        if self.portraits is not None and not self.portraits.is_dir():
            raise ValueError(f"--portraits is {str(self.portraits)!r}, which is not a folder")
        if self.secret is not None and len(self.secret) < 16:
            raise ValueError(
                f"the secret of --token-secret has {len(self.secret)} bytes, expected 16 or more"
            )


def ice_servers(
    stun: str | None, turn: str | None, user: str | None, password: str | None
) -> tuple[dict[str, str], ...]:
    """STUN and TURN servers as `RTCPeerConnection` takes them."""
    for option, url in (("--stun", stun), ("--turn", turn)):
        if url is not None and not url.startswith(_ICE_SCHEMES):
            raise ValueError(f"{option} is {url!r}, expected such as {option[2:]}:host:3478")
    if turn is not None and not (user and password):
        raise ValueError("--turn needs --turn-user and --turn-password")
    servers: list[dict[str, str]] = [{"urls": stun}] if stun else []
    if turn:
        servers.append({"urls": turn, "username": user or "", "credential": password or ""})
    return tuple(servers)


def command_words(option: str, line: str) -> tuple[str, ...]:
    """A program and its arguments, as a shell would split them."""
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise ValueError(f"{option} is {line!r}: {error}") from None
