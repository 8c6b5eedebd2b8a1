"""Who is let in: origins and tokens."""

import pytest

from live_avatar_client.gateway.doors import check_origin
from live_avatar_client.gateway.tokens import check_token, token

SECRET = b"sixteen bytes or more"
LET_IN = [
    (None, "127.0.0.1:8080", "127.0.0.1", ()),
    ("http://localhost:8080", "localhost:8080", "127.0.0.1", ()),
    ("http://[::1]:8080", "[::1]:8080", "::1", ()),
    ("https://face.example", "face.example", "0.0.0.0", ()),
    ("https://face.example", "127.0.0.1:8080", "127.0.0.1", ("https://face.example/",)),
]
KEPT_OUT = [
    ("https://evil.example", "127.0.0.1:8080", "127.0.0.1", ()),
    ("https://evil.example", "face.example", "0.0.0.0", ("https://good.example",)),
    ("http://evil.example:8080", "evil.example:8080", "127.0.0.1", ()),  # its name points here
    ("null", "127.0.0.1:8080", "127.0.0.1", ()),
    ("http://[::1", "127.0.0.1:8080", "127.0.0.1", ()),
]


@pytest.mark.parametrize("request_", LET_IN)
def test_own_and_named_pages_are_let_in(request_: tuple[str | None, str, str, tuple[str]]) -> None:
    """Behind a proxy the scheme differs, and the page would be shut out of its own gateway."""
    check_origin(*request_)


@pytest.mark.parametrize("request_", KEPT_OUT)
def test_other_pages_are_kept_out(request_: tuple[str, str, str, tuple[str]]) -> None:
    """Any page in a visitor's browser could else open a session at localhost."""
    with pytest.raises(PermissionError, match="--origin"):
        check_origin(*request_)


def test_a_token_holds_until_its_time_and_no_longer() -> None:
    """A link that was passed on would be good for ever."""
    given = token(SECRET, 1000)
    check_token(SECRET, given, 1000.0)
    with pytest.raises(PermissionError, match="expired"):
        check_token(SECRET, given, 1000.5)


@pytest.mark.parametrize(
    "given",
    ["", "1000", "1000." + "0" * 64, token(b"another secret of 16", 2000), "é.ü", "1" * 999],
)
def test_what_is_no_token_of_ours_is_refused(given: str) -> None:
    """The secret would protect nothing."""
    with pytest.raises(PermissionError, match="valid token"):
        check_token(SECRET, given, 0.0)


def test_a_later_time_needs_another_signature() -> None:
    """Whoever had one token could write himself others."""
    _, signature = token(SECRET, 1000).split(".")
    with pytest.raises(PermissionError, match="valid token"):
        check_token(SECRET, f"2000.{signature}", 0.0)
