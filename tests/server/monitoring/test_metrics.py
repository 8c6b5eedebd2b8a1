"""What a client did stands on the metrics endpoint of the real server."""

import http.client
import time

import numpy as np
import pytest

from deploy.server.local import LocalServer
from deploy.server.ports import ADDRESS
from tests.support.raw_stream import IMAGE, Stream

pytestmark = pytest.mark.triton


STATIONS = ("audio", "stage 0", "stage 1", "stage 2", "stage 3", "decoder")
NEVER_STILL = {"avatar_heartbeats_total"}


def scraped(server: LocalServer, model: str = "live_avatar") -> dict[str, float]:
    """Of a model: name, with its other labels -> value."""
    connection = http.client.HTTPConnection(ADDRESS, server.ports.metrics, timeout=5)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    own = [line for line in lines if line.startswith("avatar_") and f'"{model}"' in line]
    rows = [line.replace(f'model="{model}"', "").rsplit(" ", 1) for line in own]
    for old, new in {"{}": "", ",}": "}", "{,": "{"}.items():
        rows = [[name.replace(old, new), value] for name, value in rows]
    return {name: float(value) for name, value in rows}


def settled(server: LocalServer, sessions: int) -> dict[str, float]:
    """As `scraped`, once so many sessions are open and no count has moved for a second: tests
    before this one may have left blocks behind, and figures are up to half a second old."""
    counts, since = scraped(server), time.monotonic()
    deadline = since + 60
    while counts["avatar_sessions"] != sessions or time.monotonic() < since + 1.2:
        assert time.monotonic() < deadline, counts
        time.sleep(0.2)
        now = scraped(server)
        if any(now[name] != counts.get(name) for name in now.keys() - NEVER_STILL):
            counts, since = now, time.monotonic()
    return counts


def test_a_session_and_its_blocks_are_counted(server: LocalServer) -> None:
    """A balancer and an alarm have nothing else to look at."""
    before = settled(server, 0)
    assert before["avatar_places"] == 2
    stream = Stream(server)
    assert stream.ask(start=True, image=IMAGE) == (0, "")
    assert stream.ask(audio=np.zeros(2 * 7680 + 1280, np.float32)) == (2, "")
    during = settled(server, 1)
    assert during["avatar_blocks_total"] - before["avatar_blocks_total"] == 2
    assert stream.ask(end=True) == (1, "")  # what was look-ahead
    stream.close()
    after = settled(server, 0)
    assert after["avatar_sessions_ended_total"] - before["avatar_sessions_ended_total"] == 1
    count = "avatar_first_frame_seconds_count"
    assert after[count] - before.get(count, 0) == 1
    busy = [after[f'avatar_station_busy_seconds_total{{station="{name}"}}'] for name in STATIONS]
    assert min(busy) > 0
    assert max(busy) < after["avatar_active_seconds_total"]
    assert during["avatar_replay_bytes"] > after["avatar_replay_bytes"] == 0
    assert after["avatar_backlog_seconds"] == 0
    assert after["avatar_blocks_late_total"] >= before["avatar_blocks_late_total"]


def test_every_model_that_holds_sessions_shows_their_memory(server: LocalServer) -> None:
    """Each of them is another process; all share one page."""
    stages = ("dit_stage_0", "dit_stage_1", "dit_stage_2", "dit_stage_3", "vae_decoder")
    empty = [scraped(server, model)["avatar_cache_bytes"] for model in stages]
    logged = server.log.stat().st_size
    stream = Stream(server)
    assert stream.ask(start=True, image=IMAGE) == (0, "")
    held = [scraped(server, model)["avatar_cache_bytes"] for model in stages]
    assert all(after > before for before, after in zip(empty, held, strict=True))
    assert held[1] > 1e6
    stream.ask(end=True)
    stream.close()
    assert [scraped(server, model)["avatar_cache_bytes"] for model in stages] == empty
    assert b"could not be closed" not in server.log.read_bytes()[logged:]
