"""What a person before the page sees and hears, in numbers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from tests.browser.conftest import PICTURES

if TYPE_CHECKING:
    from playwright.sync_api import Page

_WATCH = """
async (milliseconds) => {
  const video = document.querySelector("video");
  const stream = video.srcObject ?? (window.captured ??= video.captureStream());
  window.context ??= new AudioContext();
  await window.context.resume();
  const ear = window.context.createAnalyser();
  ear.fftSize = 2048;
  window.context.createMediaStreamSource(stream).connect(ear);
  const canvas = new OffscreenCanvas(96, 96);
  const paper = canvas.getContext("2d", { willReadFrequently: true });
  const samples = new Float32Array(ear.fftSize), boxes = [];
  let last = null, loudest = 0, changed = 0;
  const end = performance.now() + milliseconds;
  while (performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 40));
    paper.drawImage(video, 0, 0, 96, 96);
    const { data } = paper.getImageData(30, 62, 36, 22);  // the mouth, and the chin below it
    const red = Float32Array.from({ length: data.length / 4 }, (_, place) => data[4 * place]);
    if (last) {
      const moves = red.map((value, place) => Math.abs(value - last[place]));
      const moved = moves.reduce((sum, move) => sum + move) / moves.length;
      boxes.push(moved);
      changed += moved > 0.02;
    }
    last = red;
    ear.getFloatTimeDomainData(samples);
    loudest = Math.max(loudest, ...samples.map(Math.abs));
  }
  boxes.sort((a, b) => a - b);
  return { mouth: boxes[Math.floor(0.8 * boxes.length)], changed, loudest };
}
"""


class Watched(NamedTuple):
    """`mouth`: by how many grey levels its box changes from look to look, 40 ms apart, 8 times of
    10 less. `changed`: looks at which it had changed at all. `loudest`: sample, 1 is the most."""

    mouth: float
    changed: int
    loudest: float


def watch(page: Page, seconds: float) -> Watched:
    """The video for so long."""
    return Watched(**page.evaluate(_WATCH, 1000 * seconds))


def begin(page: Page, address: str, query: str = "") -> None:
    """Open the page and start; return when the face is there."""
    page.goto(address + query)
    page.click("#start")
    page.wait_for_selector("body.shown", timeout=15_000)


def await_status(page: Page, words: str, within_s: float = 20.0) -> None:
    """Until the status line says so; long, for machines that are busy with other things."""
    page.wait_for_function(
        "words => document.getElementById('status').textContent.includes(words)",
        arg=words,
        timeout=1000 * within_s,
    )


def keep_picture(page: Page, name: str) -> None:
    """A screenshot for people."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    time.sleep(0.5)  # fades
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
