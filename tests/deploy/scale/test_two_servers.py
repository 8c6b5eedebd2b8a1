"""Two real servers with two places each behind the chart's Envoy."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("envoy", reason="no Envoy here: make test-scale")

from export.repository.assemble import assemble
from live_avatar_client import ThreadedLiveSession
from tests.deploy.scale.balancer import balancing
from tests.deploy.scale.pair import Server, Talk, await_known, ports_of, taken
from tests.support.raw_stream import IMAGE
from tests.support.waiting import happens

pytestmark = [pytest.mark.triton, pytest.mark.slow]
DEMO = Path(__file__).parents[3] / "artifacts" / "demo"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("two")
    repository = assemble(DEMO, folder / "repository", steps="0,1,2,3")
    servers = [Server(folder / name, repository) for name in ("first", "second")]
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.stop()


@pytest.fixture(scope="module")
def url(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with balancing(tmp_path_factory.mktemp("envoy"), ports_of(servers)) as url:
        yield url


@pytest.fixture(autouse=True)
def _all_is_well(servers: list[Server]) -> None:
    assert happens(lambda: all(server.is_ready() for server in servers), 60)
    assert happens(lambda: not any(server.num_sessions for server in servers), 20)
    await_known(servers)


def test_sessions_go_where_fewest_are_and_stay_there(servers: list[Server], url: str) -> None:
    """Round robin with a call before each stream puts all of them on one server."""
    talks = [Talk(url, 10).begins() for _ in range(4)]
    assert happens(lambda: [server.num_sessions for server in servers] == [2, 2], 3)
    for talk in talks:
        talk.ends()


def test_a_server_whose_places_are_taken_by_others_gets_no_session(
    servers: list[Server], url: str
) -> None:
    """Envoy counts its own sessions only, and would choose the full server again and again."""
    full, free = servers
    with taken(full, 2):
        await_known(servers)
        talks = [Talk(url, 4).begins() for _ in range(2)]
        assert happens(lambda: free.num_sessions == 2, 3)
        for talk in talks:
            talk.ends()


def test_a_refusal_becomes_another_try(
    servers: list[Server], url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A place that is free a moment later would be of no use to who asked now."""
    first, second = servers
    with caplog.at_level(logging.WARNING), taken(first, 2), taken(second, 2) as others:
        talk = Talk(url, 4, resume=True)
        assert happens(lambda: "all 2 sessions of this server are in use" in caplog.text, 10)
        others[0].close()
        talk.ends()


def test_a_drain_loses_no_session_and_new_ones_go_elsewhere(
    servers: list[Server], url: str
) -> None:
    """An upgrade would cut off whoever talks."""
    drained, other = servers
    talks = [Talk(url, 24).begins() for _ in range(2)]
    assert happens(lambda: [server.num_sessions for server in servers] == [1, 1], 3)
    draining = subprocess.Popen(
        drained.command("drain", "--limit-s", "60"), stderr=subprocess.PIPE, text=True
    )
    time.sleep(2.5)  # Envoy looks once a second
    late = Talk(url, 4).begins()
    assert other.num_sessions == 2
    for talk in (late, *talks):
        talk.ends()
    _, said = draining.communicate(timeout=60)
    assert draining.returncode == 0, said
    drained.start()


def test_sessions_of_a_server_that_is_killed_are_back(servers: list[Server], url: str) -> None:
    """A crash would end everybody's talk."""
    talks = [Talk(url, 24, resume=True).begins() for _ in range(2)]
    assert happens(lambda: [server.num_sessions for server in servers] == [1, 1], 3)
    time.sleep(1)
    os.kill(servers[0].pid, signal.SIGKILL)
    killed_s = time.monotonic()
    for talk in talks:
        talk.ends()
    back_s = max(min(at for at in t.arrivals_s if at > killed_s + 0.1) - killed_s for t in talks)
    print(f"the struck session's next block came after {back_s:.2f} s")
    assert back_s < 6  # 3 s on an idle machine


def test_a_live_talk_goes_on_when_its_server_is_killed(servers: list[Server], url: str) -> None:
    """Whoever talks with the avatar would have to dial again."""
    said = np.sin(np.arange(40_000, dtype=np.float32) / 20) / 4
    heard: list[np.ndarray] = []
    with ThreadedLiveSession(url=url, image=IMAGE.tobytes(), reconnect=True) as face:
        for frame in face.frames():
            heard.append(frame.sound)
            if frame.index == 25:
                face.feed(said)
            if frame.index == 50:
                (struck,) = [server for server in servers if server.num_sessions]
                os.kill(struck.pid, signal.SIGKILL)
            if frame.index >= 75 and not face.is_speaking:
                break
        seen = face.statistics()
    print(f"the picture stood still for {seen.held / 25:.2f} s")
    sound = np.concatenate(heard)
    assert np.count_nonzero(sound) == np.count_nonzero(np.rint(said * 32768))
    assert seen.held < 6 * 25  # 3 s on an idle machine


def test_a_server_that_comes_back_gets_sessions_again(servers: list[Server], url: str) -> None:
    """The other one would have to hold all that come."""
    os.kill(servers[0].pid, signal.SIGKILL)
    talks = [Talk(url, 4, resume=True).begins() for _ in range(3)]
    for talk in talks:
        talk.ends()
