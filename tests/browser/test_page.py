"""A person at the page: does the face live, speak, stop, listen? By both ways."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.server.local import LocalServer
from tests.browser.conftest import SPEECH, running_gateway
from tests.browser.watching import await_status, begin, keep_picture, watch
from tests.conftest import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.triton]
WAYS = {"webrtc": "WebRTC", "mp4": "MP4 over WebSocket"}


@pytest.mark.parametrize("way", WAYS)
def test_the_face_lives_speaks_stops_and_listens(page: Page, address: str, way: str) -> None:
    """The whole promise of the page, on the viewer's side of the encoders."""
    begin(page, address, f"?transport={way}")
    assert page.inner_text("#transport") == WAYS[way]
    time.sleep(2)
    idle = watch(page, 3)
    page.set_input_files("#sound-file", SPEECH)
    await_status(page, "Speaking")
    time.sleep(0.5)
    speaking = watch(page, 3)
    keep_picture(page, f"speaking_{way}")
    page.click("#interrupt")
    await_status(page, "Ready")
    time.sleep(0.5)
    stopped = watch(page, 1.5)
    page.keyboard.press("m")  # the microphone hears the example speech, again and again
    await_status(page, "Speaking")
    time.sleep(0.5)
    listening = watch(page, 3)
    page.keyboard.press("m")
    assert idle.changed > 15  # it breathes
    assert idle.loudest < 0.01
    assert stopped.loudest < 0.01
    for lively in (speaking, listening):
        assert lively.loudest > 0.1
        assert lively.mouth > 3 * idle.mouth
    assert page.get_attribute("#notice", "hidden") is not None
    page.click("#end")
    await_status(page, "Ended")


def test_a_second_visitor_waits_until_the_first_tab_is_closed(
    browser: Browser, page: Page, server: LocalServer
) -> None:
    """A place must be free within two seconds."""
    with running_gateway(server.grpc_url, "--max-visitors", "1") as (address, _):
        other = browser.new_context().new_page()
        begin(other, address)
        page.goto(address)
        page.click("#start")
        await_status(page, "you are next")
        keep_picture(page, "waiting")
        closed_s = time.monotonic()
        other.close()
        page.wait_for_selector("body:not([data-phase='queued'])", timeout=10_000)
        assert time.monotonic() - closed_s < 2
        page.wait_for_selector("body.shown", timeout=10_000)
        other.context.close()


def test_where_webrtc_does_not_pass_the_other_way_is_taken(page: Page, address: str) -> None:
    """Behind many firewalls the page would stay black."""
    page.add_init_script("RTCPeerConnection.prototype.setRemoteDescription = async () => {};")
    page.goto(address)
    page.click("#start")
    page.wait_for_selector("body.shown", timeout=20_000)
    assert page.inner_text("#transport") == WAYS["mp4"]


def test_a_page_without_a_microphone_says_why(page: Page, address: str) -> None:
    """At a plain http address browsers hide it, and a button would do nothing."""
    page.add_init_script("Object.defineProperty(navigator, 'mediaDevices', { value: undefined });")
    begin(page, address)
    page.click("#open")
    page.wait_for_selector("#notice:not([hidden])")
    assert "https" in page.inner_text("#notice")
    assert page.get_attribute("#open", "aria-pressed") == "false"


def test_an_own_portrait_and_a_recording(page: Page, address: str, tmp_path: Path) -> None:
    """What a visitor brings, and what a visitor takes home."""
    import av

    page.goto(address)
    page.set_input_files("input[aria-label='Your own picture']", ROOT / "examples/portrait_2.png")
    page.click("#start")
    page.wait_for_selector("body.shown", timeout=15_000)
    page.click("#record")
    time.sleep(3)
    with page.expect_download() as download:
        page.click("#record")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    with av.open(str(path)) as container:
        assert container.streams.video
        assert container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) > 30


def test_a_bad_portrait_is_told_in_words(page: Page, address: str, tmp_path: Path) -> None:
    """A visitor would see a lost connection."""
    bad = tmp_path / "bad.png"
    bad.write_bytes((ROOT / "examples/portrait.png").read_bytes()[:5000])
    page.goto(address)
    page.set_input_files("input[aria-label='Your own picture']", bad)
    page.click("#start")
    page.wait_for_selector("#notice:not([hidden])", timeout=15_000)
    assert "cut off" in page.inner_text("#notice")
    assert page.inner_text("#start") == "Start again"


def test_a_gateway_that_ends_is_told(page: Page, server: LocalServer) -> None:
    """The picture would stand still without a word."""
    with running_gateway(server.grpc_url) as (address, process):
        begin(page, address)
        os.kill(process.pid, signal.SIGTERM)
        await_status(page, "Ended")
        assert "shutting down" in page.inner_text("#notice")


def test_the_keyboard_is_enough(page: Page, address: str) -> None:
    """Not everybody has a mouse."""
    page.goto(address)
    page.wait_for_selector("input[name=portrait]:checked")
    page.focus("#start")
    page.keyboard.press("Enter")
    page.wait_for_selector("body.shown", timeout=15_000)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.down("Space")
    await_status(page, "Speaking")
    assert "Let go" in page.inner_text("#talk")
    page.keyboard.up("Space")
    await_status(page, "Ready")


@pytest.mark.parametrize(
    ("name", "look"),
    {
        "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
        "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    }.items(),
)
def test_nothing_hangs_over_the_edge(
    browser: Browser, address: str, name: str, look: dict[str, object]
) -> None:
    """A page that scrolls sideways on a phone; and pictures for people, in out/."""
    context = browser.new_context(**look)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("input[name=portrait]:checked")
    keep_picture(page, f"{name}_choosing")
    page.click("#start")
    page.wait_for_selector("body.shown", timeout=15_000)
    page.set_input_files("#sound-file", SPEECH)
    await_status(page, "Speaking")
    time.sleep(2)
    keep_picture(page, f"{name}_speaking")
    width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    context.close()
    assert width <= 0
