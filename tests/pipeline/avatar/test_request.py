"""What the door says to requests that don't fit."""

import json
from typing import Any

import numpy as np
import pytest

from pipeline.avatar.request import AvatarRequest, parse_request
from tests.support.fake_executor import CONFIG

IMAGE = {"image": np.frombuffer(b"png", np.uint8)}


def parse(start: bool = False, end: bool = False, **inputs: Any) -> AvatarRequest:
    return parse_request(inputs, session=1, start=start, end=end, config=CONFIG)


def options(**values: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(values).encode(), np.uint8)


def test_a_start_request_is_read_whole() -> None:
    """An option that is silently lost can't be noticed by the client."""
    got = parse(
        True,
        **IMAGE,
        prompt=np.frombuffer("blå".encode(), np.uint8),
        seed=np.array([-5]),
        options=options(
            sink_distance="seeded", recalibrate=False, picture_fit="short_side", drop_first_frames=3
        ),
        audio_int16=np.array([-32768, 16384], np.int16),
    )
    assert (got.image, got.prompt, got.seed) == (b"png", "blå", -5)
    assert got.options.sink_distance is None
    assert (got.options.recalibrate, got.options.drop_first_frames) == (False, 3)
    assert got.options.picture_fit == "short_side"
    np.testing.assert_array_equal(got.audio, np.array([-1.0, 0.5], np.float32))


def test_defaults_are_the_presets() -> None:
    """A plain START must behave as documented."""
    got = parse(True, **IMAGE)
    assert got.options.sink_distance == CONFIG.sink_distance
    assert (got.prompt, got.seed, got.audio, got.interrupt) == (None, 0, None, None)


BAD = [
    ({"audio": np.zeros(0, np.float32)}, "0 samples"),
    ({"audio": np.full(10, np.nan, np.float32)}, "sample 0 is nan"),
    ({"audio": np.full(10, np.inf, np.float32)}, "sample 0 is inf"),
    ({"audio": np.full(10, 20000, np.float32)}, r"peaks at 20000, wanted \[-1, 1\]"),
    ({"audio_int16": np.zeros(8 * 3600 * 16000, np.int16)}, "28800.00 s.*600 s"),
    (
        {"audio": np.zeros(9, np.float32), "audio_int16": np.zeros(9, np.int16)},
        "audio and audio_int16, wanted one",
    ),
    ({"audio_features": np.zeros((1, 2, 3, 13), np.float32)}, "multiple of 12"),
    ({"noise": np.zeros((1, 16, 3, 8, 9), np.float32)}, r"wanted \[blocks, 16, 3, 8, 8\]"),
    ({"sink_distance": np.array([[1, 2, 3, 31]])}, r"wanted 0\.\.30"),
    ({"sink_distance": np.array([[1, 2, 3]])}, r"wanted \[blocks, 4\]"),
    ({"seed": np.array([1])}, "belongs to the START"),
    ({"interrupt": np.array([-2])}, r"interrupt is \[-2\], wanted a block \[n\], or \[-1\]"),
    ({"interrupt": np.array([1, 2])}, r"interrupt is \[1, 2\], wanted a block"),
]


@pytest.mark.parametrize(("inputs", "message"), BAD)
def test_bad_tensors_are_refused_in_words(inputs: dict[str, np.ndarray], message: str) -> None:
    """Says what came and what was wanted."""
    with pytest.raises(ValueError, match=message):
        parse(**inputs)


BAD_STARTS = [
    ({}, "no picture"),
    ({**IMAGE, "image_rgb": np.zeros((2, 2, 3), np.uint8)}, "image and image_rgb, wanted one"),
    ({**IMAGE, "prompt": np.array([0xFF], np.uint8)}, "not UTF-8"),
    ({**IMAGE, "prompt": np.zeros(9000, np.uint8)}, "9000 bytes, at most 8192"),
    ({**IMAGE, "seed": np.array([1, 2])}, "one integer"),
    ({**IMAGE, "text": np.zeros((5, 4), np.float32)}, r"wanted \[1\.\.4, 4\]"),
    ({**IMAGE, "text": np.full((2, 4), np.nan, np.float32)}, "text has values that are not finite"),
    ({**IMAGE, "options": np.frombuffer(b"{", np.uint8)}, "not JSON"),
    ({**IMAGE, "options": np.frombuffer(b"[]", np.uint8)}, "JSON list, wanted an object"),
    ({**IMAGE, "options": options(speed=2)}, "unknown option 'speed', known are sink_distance"),
    ({**IMAGE, "options": options(sink_distance=31)}, r"is 31, wanted 0\.\.30 or 'seeded'"),
    ({**IMAGE, "options": options(recalibrate=1)}, "wanted true or false"),
    ({**IMAGE, "options": options(live="yes")}, "option live is 'yes', wanted true or false"),
    ({**IMAGE, "options": options(look_ahead_frames=1)}, r"look_ahead_frames is 1, wanted 0\.\.0"),
    ({**IMAGE, "interrupt": np.array([0])}, "interrupt came with START"),
    ({**IMAGE, "options": options(picture_fit="bars")}, "is 'bars', wanted cover or short_side"),
    ({**IMAGE, "options": options(picture_fit=[1])}, r"is \[1\], wanted cover or short_side"),
    ({**IMAGE, "options": options(drop_first_frames=12)}, r"wanted 0\.\.11"),
]


@pytest.mark.parametrize(("inputs", "message"), BAD_STARTS)
def test_bad_starts_are_refused_in_words(inputs: dict[str, np.ndarray], message: str) -> None:
    """Says what came and what was wanted."""
    with pytest.raises(ValueError, match=message):
        parse(True, **inputs)


def test_a_sequence_id_of_text_is_refused() -> None:
    """Triton lets it pass; the models are called with integers."""
    with pytest.raises(ValueError, match="the text 'abc', wanted a 64-bit integer"):
        parse_request(IMAGE, session="abc", start=True, end=False, config=CONFIG)  # type: ignore[arg-type]
