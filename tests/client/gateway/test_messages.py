"""What a page says, checked."""

import json

import pytest

from live_avatar_client.gateway.messages import Interrupt, Microphone, Say, Start, parsed

BAD = {
    "no JSON": ("{", "expected JSON"),
    "no object": ("[1]", "expected a JSON object"),
    "deep": ("[" * 100_000, "expected JSON"),
    "no type": ("{}", "type None"),
    "type that is none": ('{"type": ["say"]}', "expected start, offer"),
    "unknown type": ('{"type": "dance"}', "type dance"),
    "unknown field": ('{"type": "interrupt", "now": 1}', "no now"),
    "missing field": ('{"type": "say"}', "lacks text"),
    "empty text": ('{"type": "say", "text": ""}', "0 characters"),
    "half a letter": ('{"type": "say", "text": "\\ud83d"}', "half of a letter"),
    "long text": (json.dumps({"type": "say", "text": "a" * 1001}), "1001 characters"),
    "number for a text": ('{"type": "say", "text": 7}', "text is 7"),
    "other transport": ('{"type": "start", "transport": "tape"}', "webrtc or mp4"),
    "transport that is no text": ('{"type": "start", "transport": {}}', "webrtc or mp4"),
    "negative seed": ('{"type": "start", "transport": "mp4", "seed": -1}', "seed is -1"),
    "true for a seed": ('{"type": "start", "transport": "mp4", "seed": true}', "seed is True"),
    "rate of nobody": ('{"type": "microphone", "on": true, "rate": 1}', "rate is 1"),
    "on that is no bool": ('{"type": "microphone", "on": 1}', "on is 1"),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
def test_a_malformed_message_is_refused_in_words(text: str, words: str) -> None:
    """A page of another version, or somebody at the door, must not bring a traceback."""
    with pytest.raises(ValueError, match=words):
        parsed(text)


def test_what_a_page_says_is_understood() -> None:
    """The page's own messages, as main.js writes them."""
    assert parsed('{"type": "interrupt"}') == Interrupt()
    assert parsed('{"type": "say", "text": "hello"}') == Say(text="hello")
    assert parsed('{"type": "microphone", "on": true, "rate": 44100}') == Microphone(
        on=True, rate=44100
    )
    start = parsed('{"type": "start", "portrait": null, "prompt": "", "transport": "webrtc"}')
    assert start == Start(transport="webrtc", prompt="")
