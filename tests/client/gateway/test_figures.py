"""What the panel is told."""

import json

import pytest

from live_avatar_client.gateway.figures import Figures
from tests.client.gateway.fake_face import STATISTICS


def test_rate_and_jitter_are_those_of_the_last_seconds() -> None:
    """A stall in the first minute would be shown for an hour."""
    figures = Figures()
    for tick in range(400):
        late_s = 0.030 if tick < 100 and tick % 2 else 0.001
        figures.sent(tick / 25, tick / 25 + late_s)
        if tick == 99:
            early = figures.told(STATISTICS)
    late = figures.told(STATISTICS)
    assert early["jitter_ms"] == pytest.approx(14.5, abs=0.1)  # p99 - p50 of 1 and 30 ms
    assert late["jitter_ms"] == pytest.approx(0, abs=0.01)
    assert late["sent_fps"] == pytest.approx(25, abs=0.01)


def test_what_is_not_known_yet_is_null() -> None:
    """NaN is no JSON: the page would show nothing at all."""
    told = json.loads(json.dumps(Figures().told(STATISTICS), allow_nan=False))
    assert told["onset_s"]["p50"] is None
    assert told["sent_fps"] is None
