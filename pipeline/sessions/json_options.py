"""The JSON object of the `options` input: read strictly, refused in one short line."""

import json
import reprlib
from collections.abc import Sequence
from typing import Any

MAX_OPTIONS_BYTES = 16 * 1024
MAX_DIGITS = 19
"""Of an integer: every 64-bit number has no more."""
_SHOWN = 80  # characters of a value in an error
_BYTE_ORDER_MARK = "\ufeff"

_brief = reprlib.Repr()
_brief.maxlevel = 2
_brief.maxstring = _brief.maxother = _SHOWN


def shown(value: object) -> str:
    """What a client sent, for an error: its `repr`, cut to 80 characters."""
    text = _brief.repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def read_options(raw: bytes, known: Sequence[str]) -> dict[str, Any]:
    """A JSON object of which every key is known; no bytes are no options. ValueError, in one line,
    for what is not UTF-8, not JSON, too long, nested beyond reading, or says a thing twice."""
    values = _parse(_decode(raw)) if raw else {}
    if not isinstance(values, dict):
        raise ValueError(f"options is a JSON {type(values).__name__}, wanted an object")
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"unknown option {shown(unknown[0])}, known are {', '.join(known)}")
    return values


def check_integer(name: str, value: Any, low: int, high: int, also: str = "") -> None:
    """ValueError if an option isn't an integer low..high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"option {name} is {shown(value)}, wanted {low}..{high}{also}")


def check_bool(name: str, value: Any) -> bool:
    """An option that is true or false; ValueError if it is neither."""
    if not isinstance(value, bool):
        raise ValueError(f"option {name} is {shown(value)}, wanted true or false")
    return value


def _decode(raw: bytes) -> str:
    if len(raw) > MAX_OPTIONS_BYTES:
        raise ValueError(f"options has {len(raw)} bytes, at most {MAX_OPTIONS_BYTES} are taken")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"options is not UTF-8: {error}") from error
    if text.startswith(_BYTE_ORDER_MARK):
        raise ValueError("options begins with a byte order mark, wanted UTF-8 without one")
    return text


def _parse(text: str) -> Any:
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_int=_integer, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"options is not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("options is nested too deeply, wanted one object of values") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"options has {shown(twice)} twice, wanted it once")
    return values


def _integer(text: str) -> int:
    if (digits := len(text.lstrip("-"))) > MAX_DIGITS:
        raise ValueError(f"options has an integer of {digits} digits, wanted at most {MAX_DIGITS}")
    return int(text)


def _constant(name: str) -> float:
    raise ValueError(f"options is not JSON: it has no number {name}")
