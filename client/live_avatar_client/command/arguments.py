"""What the command line was given, checked before anything is opened or connected."""

import json
import math
import re
from typing import Any

from live_avatar_client.files import shown
from live_avatar_client.rolling import blocks_before

MAX_SECONDS = 749_999
"""Of a generated video: what the server's limit of a million blocks has room for."""
_MAX_OPTION_CHARACTERS = 65_536
CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE = (f"LIVE_AVATAR_TLS_{n}" for n in ("CA", "CERT", "KEY"))
"""Environment variables with the defaults of --tls-ca, --tls-cert and --tls-key."""
_GRPC_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:")


def checked_url(url: str) -> str:
    """host:port, behind grpcs:// for TLS, or one of gRPC's own schemes."""
    found = re.fullmatch(r"(?:grpcs://)?(\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+):(\d{1,5})", url, re.ASCII)
    is_scheme = url.startswith(_GRPC_SCHEMES) and url.isascii() and url.isprintable()
    if not is_scheme and not (found and 0 < int(found[2]) < 2**16):
        raise ValueError(
            f"--url is {shown(url) or 'empty'}, expected host:port of the server's gRPC endpoint, "
            "such as localhost:8001, or grpcs://host:port for TLS"
        )
    return url


def checked_text(option: str, text: str | None) -> None:
    """ValueError for bytes on the command line that are no UTF-8: no wire takes them."""
    if text is not None and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{option} is '{shown(text)}', expected text in UTF-8")


def checked_seconds(seconds: float) -> float:
    """A length that a server can make."""
    if 0 < seconds <= MAX_SECONDS:  # never nan
        return seconds
    raise ValueError(f"--seconds is {seconds:g}, expected a number above 0 and up to {MAX_SECONDS}")


def parsed_options(options: str | None) -> dict[str, Any] | None:
    """The JSON object that `--options` is."""
    checked_text("--options", options)
    if options is None:
        return None
    if len(options) > _MAX_OPTION_CHARACTERS:
        raise ValueError(
            f"--options has {len(options)} characters, at most {_MAX_OPTION_CHARACTERS} are taken"
        )
    try:
        parsed = json.loads(options, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("--options is not JSON that can be read: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"--options is not JSON: {error}; wanted an object in braces") from None
    if not isinstance(parsed, dict):
        raise ValueError(f"--options is {shown(options)}, expected a JSON object in braces")
    return parsed


def prompt_changes(then: list[str], seconds: float) -> list[tuple[int, str]]:
    """(first block, prompt) of every `--then`, in order, those of one block by the last one."""
    changes: dict[int, str] = {}
    for given in then:
        checked_text("--then", given)
        time_s, colon, prompt = given.partition(":")
        try:
            at_s = float(time_s)
        except ValueError:
            at_s = math.nan
        if not colon or not prompt or not 0 < at_s < seconds:
            raise ValueError(
                f"--then is '{shown(given)}', expected SECONDS:PROMPT with seconds above 0 and "
                f"below {seconds:g}"
            )
        changes[blocks_before(at_s)] = prompt
    last = blocks_before(seconds)
    return [(block, prompt) for block, prompt in sorted(changes.items()) if block < last]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
