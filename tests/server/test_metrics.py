"""What a client did stands on the metrics endpoint of the real server."""

import http.client
import time

import numpy as np
import pytest

from deploy.server.local import LocalServer
from deploy.server.ports import ADDRESS
from tests.support.raw_stream import IMAGE, Stream

pytestmark = pytest.mark.triton


def scraped(server: LocalServer) -> dict[str, float]:
    """Of the model `live_avatar`: name, with its other labels -> value."""
    connection = http.client.HTTPConnection(ADDRESS, server.ports.metrics, timeout=5)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    own = [line for line in lines if line.startswith("avatar_") and "live_avatar" in line]
    rows = [line.replace('model="live_avatar"', "").rsplit(" ", 1) for line in own]
    return {name.replace("{}", "").replace(",}", "}"): float(value) for name, value in rows}


def test_a_session_and_its_blocks_are_counted(server: LocalServer) -> None:
    """A balancer and an alarm have nothing else to look at."""
    before = scraped(server)
    assert before["avatar_places"] == 2
    stream = Stream(server)
    assert stream.ask(start=True, image=IMAGE) == (0, "")
    assert stream.ask(audio=np.zeros(2 * 7680 + 1280, np.float32)) == (2, "")
    time.sleep(0.7)
    during = scraped(server)
    assert during["avatar_sessions"] == 1
    assert during["avatar_blocks_total"] - before["avatar_blocks_total"] == 2
    assert stream.ask(end=True) == (1, "")  # what was look-ahead
    stream.close()
    time.sleep(0.7)
    after = scraped(server)
    assert after["avatar_sessions"] == 0
    assert after["avatar_sessions_ended_total"] - before["avatar_sessions_ended_total"] == 1
    count = "avatar_first_frame_seconds_count"
    assert after[count] - before.get(count, 0) == 1
    assert any(name.startswith("avatar_station_busy_seconds_total") for name in after)
