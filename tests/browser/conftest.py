"""A gateway before the real server, and Chromium with a fake microphone that speaks."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from deploy.server.local import LocalServer
from live_avatar_client import read_audio
from tests.conftest import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SPEECH = ROOT / "examples" / "speech.flac"
PICTURES = ROOT / "out" / "browser"


@pytest.fixture(scope="session")
def speech_wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example speech as Chromium's fake microphone takes it."""
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    samples = np.concatenate(list(read_audio(SPEECH)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes((samples.repeat(3) * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="session")
def browser(speech_wav: Path) -> Iterator[Browser]:
    """Without one these tests are skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="say: make test-browser")
    if shutil.which("chromium") is None:
        pytest.skip("there is no browser: apt-get install chromium")
    with playwright.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[
                "--no-sandbox",  # of a container's root
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={speech_wav}",
            ],
        )
        yield browser
        browser.close()


@contextmanager
def running_gateway(
    url: str, *options: str, ends_with: int = 0
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its address and its process, which ends by SIGINT in good order, if it still runs."""
    command = [sys.executable, "-m", "live_avatar_client", "gateway", "--url", url, "--port", "0"]
    command += ["--portraits", str(ROOT / "examples"), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        said = process.stderr.readline()
        found = re.search(r"http://\S+", said)
        assert found, said + process.stderr.read()
        yield found[0], process
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == ends_with


@pytest.fixture(scope="module")
def address(server: LocalServer) -> Iterator[str]:
    """A gateway with two places."""
    with running_gateway(server.grpc_url) as (address, _):
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A window of its own; an error in the page's code fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []
