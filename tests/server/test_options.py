"""Hostile options against the real server: words for the client, silence in the log."""

from collections.abc import Iterator

import numpy as np
import pytest

from deploy.server.local import LocalServer
from tests.pipeline.sessions.test_json_options import HOSTILE
from tests.server.test_faults import IMAGE, Stream

pytestmark = pytest.mark.triton
NUM_REQUESTS = 500
MAX_LOG_GROWTH = 100_000  # bytes: two short lines a request


@pytest.fixture
def stream(server: LocalServer) -> Iterator[Stream]:
    stream = Stream(server, session=0)
    yield stream
    stream.close()


def test_hostile_options_neither_flood_the_log_nor_show_a_traceback(
    server: LocalServer, stream: Stream
) -> None:
    """One client that repeats its mistake would fill the disk of everybody."""
    before = server.log.stat().st_size
    small = [raw for raw, _ in HOSTILE if len(raw) < 1_000_000]
    for number in range(NUM_REQUESTS):
        stream.session = 700_000 + number
        options = np.frombuffer(small[number % len(small)], np.uint8)
        stream.send(start=True, end=True, image=IMAGE, options=options)
    errors = [stream.answer()[1] for _ in range(NUM_REQUESTS)]
    assert all("option" in error for error in errors)
    assert max(map(len, errors)) < 400
    assert server.log.stat().st_size - before < MAX_LOG_GROWTH
    assert "Traceback" not in server.log.read_text()


def test_options_of_megabytes_are_told_the_limit(stream: Stream) -> None:
    """Their text would come back, megabytes of it."""
    stream.session = 800_000
    options = np.full(20_000_000, ord("["), np.uint8)
    error = stream.ask(start=True, end=True, image=IMAGE, options=options)[1]
    assert "20000000 bytes, at most 16384" in error


def test_a_prompt_that_is_not_utf8_is_refused_in_words(stream: Stream) -> None:
    """A decode error that leaves the model ends its process."""
    stream.session = 800_001
    prompt = np.frombuffer("blå".encode("latin-1"), np.uint8)
    error = stream.ask(start=True, end=True, image=IMAGE, prompt=prompt)[1]
    assert "prompt is not UTF-8" in error
