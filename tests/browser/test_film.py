"""The page's second tab: words become a film, by the real server and Chromium."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from tests.browser.conftest import running_gateway
from tests.browser.watching import await_status, keep_picture, watch
from tests.conftest import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.triton]


def test_a_film_plays_takes_a_new_prompt_and_ends(page: Page, tmp_path: Path) -> None:
    """Where a server has both models, the visitor has the choice."""
    both = [ROOT / "artifacts" / name for name in ("demo", "rolling-demo")]
    assemble(both, tmp_path / "repository")
    with (
        LocalServer(tmp_path / "repository", log_dir=tmp_path) as server,
        running_gateway(server.grpc_url) as (address, _),
    ):
        page.goto(address)
        page.wait_for_selector("#shows:not([hidden])", timeout=15_000)
        page.check("input[name=show][value=film]")
        page.fill("#prompt", "a lighthouse in the fog")
        page.click("#start")
        page.wait_for_selector("body.shown", timeout=20_000)
        await_status(page, "Playing")
        time.sleep(2)
        before = watch(page, 3)
        page.fill("#new-prompt", "the fog lifts")
        page.click("#prompting button")
        assert page.inner_text("#caption") == "✎ the fog lifts"
        time.sleep(4)
        after = watch(page, 3)
        keep_picture(page, "film")
        assert page.get_attribute("#notice", "hidden") is not None
        page.click("#end")
        await_status(page, "Ended")
    for seen in (before, after):
        assert seen.changed > 15
        assert seen.loudest < 0.01
