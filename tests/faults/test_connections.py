"""Connections that say nothing are closed, and sessions are not."""

import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from deploy.server import launch
from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from live_avatar_client import Session
from tests.faults.scene import DEMO
from tests.support.raw_stream import IMAGE
from tests.support.waiting import happens

pytestmark = [pytest.mark.triton, pytest.mark.slow]
AGE_S = 2.0


def test_connections_that_say_nothing_end_and_sessions_outlive_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 connections were held for ever, and a talk of an hour must not end after five minutes."""
    monkeypatch.setattr(launch, "MAX_AGE_MS", round(1000 * AGE_S))
    repository = assemble(DEMO, tmp_path / "repository", steps="0,1,2,3")
    with LocalServer(repository, log_dir=tmp_path / "log") as server:
        idle = grpc.insecure_channel(server.grpc_url)
        grpc.channel_ready_future(idle).result(timeout=10)
        states: list[grpc.ChannelConnectivity] = []
        idle.subscribe(states.append)
        began, last_s, blocks = time.monotonic(), 0.0, 0
        with Session(url=server.grpc_url, image=IMAGE.tobytes()) as session:
            session.send(np.zeros(8000, np.float32))
            for block in session:  # idle silence goes on, until it is enough
                blocks, last_s = block.block, time.monotonic() - began
                if last_s > 4 * AGE_S:
                    break
        assert blocks > 8
        assert happens(lambda: grpc.ChannelConnectivity.IDLE in states, within_s=5), states
        idle.close()
