"""What the door says to an `options` input that is hostile, broken or merely odd."""

import json
import time
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.avatar.request import check_sequence, parse_request
from pipeline.config.rules import DEPLOYED
from pipeline.rolling.request import parse_rolling_request
from pipeline.sessions.json_options import MAX_OPTIONS_BYTES, read_options, shown
from tests.pipeline.rolling.test_plan import ROLLING
from tests.support.fake_executor import CONFIG

IMAGE = {"image": np.frombuffer(b"png", np.uint8)}
LONGEST_ERROR = 250
"""Characters: a value is cut to 80, and the words around it are ours."""


def avatar(raw: bytes) -> None:
    inputs = {**IMAGE, "options": np.frombuffer(raw, np.uint8)}
    parse_request(inputs, session=1, start=True, end=False, config=CONFIG)


def rolling(raw: bytes) -> None:
    inputs = {"options": np.frombuffer(raw, np.uint8)}
    rules = {DEPLOYED: ROLLING}
    parse_rolling_request(inputs, session=1, start=True, end=False, rules=rules)


HOSTILE = [
    (b"[" * 100_000, f"has 100000 bytes, at most {MAX_OPTIONS_BYTES} are taken"),
    (b'{"a":' * 100_000, "has 500000 bytes"),
    (b"[" * 16_000, "nested too deeply"),
    (b'{"a":' * 3_000, "nested too deeply"),
    (b'{"recalibrate": "' + b"x" * 5_000_000 + b'"}', "has 5000019 bytes"),
    (b" " * 16_384 + b"{}", "has 16386 bytes"),
    (b'{"seconds": NaN}', "no number NaN"),
    (b'{"drop_first_frames": Infinity}', "no number Infinity"),
    (b'{"blocks": -Infinity}', "no number -Infinity"),
    (b'{"rules": "a", "rules": "b"}', "'rules' twice"),
    (b'{"recalibrate": true, "recalibrate": true}', "'recalibrate' twice"),
    (b'{"a": {"b": 1, "b": 2}}', "'b' twice"),
    (b'{"blocks": 1' + b"0" * 5_000 + b"}", "integer of 5001 digits, wanted at most 19"),
    (b'{"drop_first_frames": -' + b"9" * 400 + b"}", "integer of 400 digits"),
    (b'\xef\xbb\xbf{"recalibrate": true}', "byte order mark"),
    ('{"recalibrate": true}'.encode("utf-16"), "not UTF-8"),
    ('{"recalibrate": true}'.encode("utf-16-le"), "not JSON"),
    ('{"recalibrate": "é"}'.encode("latin-1"), "not UTF-8"),
    (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
    (rb'{"\ud800": 1}', r"unknown option '\\ud800'"),
    (b'{"a": "\n"}', "not JSON: Invalid control character"),
    (b'{"recalibrate": true} {}', "not JSON: Extra data"),
    (b"\0", "not JSON"),
    (b'{"' + b"k" * 9_000 + b'": 1}', "unknown option 'kkk.*'"),
]


@pytest.mark.parametrize("door", [avatar, rolling])
@pytest.mark.parametrize(("raw", "words"), HOSTILE, ids=[words for _, words in HOSTILE])
def test_hostile_options_are_refused_in_one_short_line(
    door: Callable[[bytes], None], raw: bytes, words: str
) -> None:
    """Anything but a ValueError puts a traceback into the log, for each request; and an error that
    echoes what came sends megabytes back."""
    began = time.monotonic()
    with pytest.raises(ValueError, match=words) as refused:
        door(raw)
    text = str(refused.value)
    assert len(text) <= LONGEST_ERROR
    assert text.isprintable(), text
    assert time.monotonic() - began < 5


LONG = {
    "text": "x" * 10_000,
    "list": list(range(2_000)),
    "object": {f"k{i}": i for i in range(900)},
    "nested": json.loads("[" * 500 + "]" * 500),
    "newlines": "\n" * 5_000,
    "surrogate": "\ud800",
    "number": 1e300,
    "nothing": None,
}
NAMES = {
    avatar: ("sink_distance", "recalibrate", "picture_fit", "drop_first_frames"),
    rolling: ("blocks", "seconds", "rules"),
}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize(
    ("door", "name"), [(door, name) for door, names in NAMES.items() for name in names]
)
def test_a_value_of_any_length_comes_back_cut(
    door: Callable[[bytes], None], name: str, kind: str
) -> None:
    """A client's own text would fill its screen and our log."""
    if (name, kind) == ("sink_distance", "nothing"):
        pytest.skip("null draws the distance from the seed")
    with pytest.raises(ValueError, match=f"option {name} is .*wanted") as refused:
        door(json.dumps({name: LONG[kind]}).encode())
    assert len(str(refused.value)) <= LONGEST_ERROR
    assert str(refused.value).isprintable()


def test_a_short_value_comes_back_whole() -> None:
    """Cut too early, an error no longer says what came."""
    assert shown("y" * 70) == repr("y" * 70)
    assert shown([1, 2, 3]) == "[1, 2, 3]"
    assert shown(-(2**63)) == str(-(2**63))


def test_a_sequence_id_of_long_text_comes_back_cut() -> None:
    """Triton takes any text for an id."""
    session = "s" * 100_000
    with pytest.raises(ValueError, match="wanted a 64-bit integer") as refused:
        check_sequence({}, session, start=True, start_only=())
    assert len(str(refused.value)) <= LONGEST_ERROR


@pytest.mark.parametrize("raw", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xfe\xff\x00a"])
def test_a_prompt_that_is_not_utf8_is_refused_in_one_line(raw: bytes) -> None:
    """A decode error is a ValueError, but says nothing of the prompt."""
    inputs = {**IMAGE, "prompt": np.frombuffer(raw, np.uint8)}
    with pytest.raises(ValueError, match="prompt is not UTF-8") as refused:
        parse_request(inputs, session=1, start=True, end=False, config=CONFIG)
    assert str(refused.value).isprintable()


def test_options_up_to_the_limit_are_read() -> None:
    """A limit that is off by one refuses what the docs promise."""
    raw = b'{"a": 1}'.ljust(MAX_OPTIONS_BYTES)
    assert read_options(raw, ["a"]) == {"a": 1}
    assert read_options(b"", ["a"]) == {}
    assert read_options(b'{"a": 9223372036854775807}', ["a"]) == {"a": 2**63 - 1}
