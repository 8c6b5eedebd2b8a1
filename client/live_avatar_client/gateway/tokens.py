"""Tokens that let a visitor in for a while: `SECONDS.SIGNATURE`.

SECONDS is the Unix time until which it holds, SIGNATURE its HMAC-SHA256 in hexadecimal under the
secret. Any backend that knows the secret can make one. It says nothing about who comes, and may be
used more than once until then.
"""

import hmac
import re


def token(secret: bytes, until_s: int) -> str:
    """One that holds until this Unix time, in seconds."""
    return f"{until_s}.{_signature(secret, until_s)}"


def check_token(secret: bytes, given: str, now_s: float) -> None:
    """PermissionError with words for the visitor, unless the token is ours and still holds."""
    found = re.fullmatch(r"(\d{1,12})\.([0-9a-f]{64})", given, re.ASCII)
    if not found or not hmac.compare_digest(found[2], _signature(secret, int(found[1]))):
        raise PermissionError("this address lacks a valid token: ask for a new link")
    if now_s > int(found[1]):
        raise PermissionError("the token in this address has expired: ask for a new link")


def _signature(secret: bytes, until_s: int) -> str:
    return hmac.new(secret, str(until_s).encode(), "sha256").hexdigest()
