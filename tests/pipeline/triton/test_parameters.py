"""What a parameter of config.pbtxt may be."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.triton import parameters


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (parameters.whole, "2", 2),
        (parameters.whole, " 12 ", 12),
        (parameters.seconds, "10", 10.0),
        (parameters.seconds, "0.5", 0.5),
        (parameters.seconds, "1e3", 1000.0),
        (parameters.limit, "0.25", 0.25),
        (parameters.names, "a,b", ["a", "b"]),
        (parameters.names, "a, b", ["a", "b"]),
        (parameters.steps, "0", [0]),
        (parameters.steps, "1, 2,3", [1, 2, 3]),
    ],
)
def test_good_values_are_read(read: Callable[[str], Any], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (parameters.whole, ["", "0", "-1", "two", "1.5", "nan", "1e3", "²", "1_0"]),
        (parameters.seconds, ["", "0", "-0.0", "-1", "nan", "inf", "-inf", "1e999", "ten"]),
        (parameters.limit, ["", "0", "-1", "nan", "inf", "off"]),
        (parameters.names, ["", "a,,b", "a,", "a,b,a", "a, a"]),
        (parameters.steps, ["", "a", "-1", "0,", "1,0", "0,2", "1,1", "0 1", "0.5"]),
    ],
)
def test_others_are_refused_with_what_is_wanted(
    read: Callable[[str], Any], texts: list[str]
) -> None:
    """The server would start: never reap a silent client, take no session, skip a step."""
    for text in texts:
        with pytest.raises(ValueError, match=r"^wanted "):
            read(text)


def test_what_is_kept_of_a_session_at_a_stage_is_said_in_one_word(serving: Any) -> None:
    """It would be another's, or nothing."""
    told = {text: serving.stage_keep(text, exact=36) for text in ("cache", "exact", "6", "0")}
    assert told["cache"] is serving.KeptCaches
    assert (told["exact"].keywords, told["6"].keywords) == ({"most": 37}, {"most": 7})
    assert told["0"] is None
    with pytest.raises(ValueError, match="wanted a whole number, 0 or more, or exact, or cache"):
        serving.stage_keep("caches", exact=36)


@pytest.mark.parametrize(
    ("groups", "count"),
    [
        ([{"count": 2}], 2),
        ([{"count": 1, "gpus": [0, 1]}], 2),
        ([{"count": 1}, {"count": 1}], 2),
        ([], 0),
    ],
)
def test_sessions_live_in_one_instance(groups: list[dict[str, Any]], count: int) -> None:
    """Of two, one would get the blocks of sessions that the other has opened."""
    with pytest.raises(ValueError, match=f"dit_stage_1: .* {count} instances, wanted 1"):
        parameters.check_one_instance("dit_stage_1", groups)
    parameters.check_one_instance("dit_stage_1", [{"count": 1, "gpus": [3], "kind": "KIND_GPU"}])
