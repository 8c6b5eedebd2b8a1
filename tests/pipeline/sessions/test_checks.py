"""How large an input may be, seen before anything is copied."""

import numpy as np
import pytest

from pipeline.avatar.request import MAX_BYTES, parse_request
from pipeline.config.rules import DEPLOYED
from pipeline.rolling.request import parse_rolling_request
from pipeline.sessions.checks import MAX_INPUT_BYTES
from tests.support.fake_executor import CONFIG

LARGE = {
    "prompt": (8193, 8192),
    "options": (16_385, 16_384),
    "image": (32 * 2**20 + 1, 32 * 2**20),
    "text": (MAX_INPUT_BYTES + 1, MAX_INPUT_BYTES),
    "noise": (MAX_INPUT_BYTES + 1, MAX_INPUT_BYTES),
    "audio_features": (MAX_INPUT_BYTES + 1, MAX_INPUT_BYTES),
    "image_rgb": (150_000_001, 150_000_000),
}
"""Input -> bytes that came, and that are taken."""


class Unread(np.ndarray):
    """An array that nobody may copy."""

    def tobytes(self, *_: object) -> bytes:  # type: ignore[override]
        raise AssertionError("the input was copied before its size was known")


def bytes_that_claim(number: int) -> np.ndarray:
    """So many bytes, which take one byte of memory."""
    return np.broadcast_to(np.zeros(1, np.uint8), number).view(Unread)


@pytest.mark.parametrize("name", LARGE)
def test_an_input_that_is_too_large_is_refused_before_it_is_copied(name: str) -> None:
    """Two gigabytes come through gRPC; a copy of them would end the process of all sessions."""
    came, taken = LARGE[name]
    inputs = {name: bytes_that_claim(came)}
    with pytest.raises(ValueError, match=f"^{name} has {came} bytes, at most {taken} are taken$"):
        parse_request(inputs, session=1, start=True, end=False, config=CONFIG)
    if name not in MAX_BYTES:
        rules = {DEPLOYED: CONFIG}
        with pytest.raises(ValueError, match=f"^{name} has {came} bytes, at most {taken} are"):
            parse_rolling_request(inputs, session=1, start=True, end=False, rules=rules)  # type: ignore[arg-type]
