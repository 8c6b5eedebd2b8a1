"""Gateways and servers that die, before the real server and Chromium."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.server.health import open_sessions
from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from tests.browser.conftest import SPEECH, running_gateway
from tests.browser.watching import await_status, begin, watch
from tests.client.cut_wire import cut_wire
from tests.conftest import ROOT
from tests.support.waiting import happens

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.triton]


def test_a_gateway_that_is_killed_leaves_no_session_and_is_told(
    page: Page, server: LocalServer
) -> None:
    """Nobody says goodbye: the page notices by itself, and so does the server."""
    with running_gateway(server.grpc_url, ends_with=-signal.SIGKILL) as (address, process):
        begin(page, address)
        os.kill(process.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        await_status(page, "Ended")
        assert time.monotonic() - killed_s < 5
        assert "lost" in page.inner_text("#notice").lower()
        assert happens(lambda: open_sessions(server.ports) == 0, within_s=5)


def test_a_server_that_is_killed_is_told_and_the_visit_goes_on_when_it_is_back(
    page: Page, tmp_path: Path
) -> None:
    """The visitor would have to press a button, after a silence that nobody explained."""
    assemble(ROOT / "artifacts" / "demo", tmp_path / "repository")
    own = LocalServer(tmp_path / "repository", log_dir=tmp_path)
    with own, running_gateway(own.grpc_url) as (address, _):
        begin(page, address)
        os.kill(own.pid, signal.SIGKILL)
        await_status(page, "The server is away, this goes on when it is back")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address.rstrip('/')}/healthz", timeout=5)
        assert refused.value.code == 503
        assert json.loads(refused.value.read())["words"]
        own.stop()
        with LocalServer(tmp_path / "repository", log_dir=tmp_path, ports=own.ports):
            await_status(page, "Ready", within_s=30)
            assert watch(page, 2.0).changed > 10
            assert open_sessions(own.ports) == 1


def test_a_network_of_the_gateway_that_is_cut_holds_the_face(
    page: Page, server: LocalServer
) -> None:
    """Five seconds without the server, and the face goes on with its sentence."""
    with (
        cut_wire(server.ports.grpc) as wire,
        running_gateway(f"127.0.0.1:{wire.port}") as (address, _),
    ):
        begin(page, address)
        page.set_input_files("#sound-file", SPEECH)
        await_status(page, "Speaking")
        time.sleep(1)
        wire.cut()
        time.sleep(1.5)
        stands = watch(page, 2)
        time.sleep(1.5)
        wire.mend()
        time.sleep(1)
        speaks = watch(page, 2)
    assert stands.loudest < 0.01 < 0.1 < speaks.loudest
    assert speaks.mouth > 3 * stands.mouth
