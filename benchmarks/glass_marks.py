"""Pictures that say when they are due, and a page's script that reads it from what is shown.

A mark is 24 bits, black or white cells at the upper edge, 12 in each of two rows, highest bit
first. They say the milliseconds of the Unix time at which a frame is due, without the higher bits.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np

from live_avatar_client.live.frame import LiveFrame
from live_avatar_client.live.session import LiveSession
from live_avatar_client.protocol import Array

COLUMNS, ROWS = 12, 2
MODULUS = 2 ** (COLUMNS * ROWS)
"""Milliseconds after which marks repeat: more than four hours."""

WATCH = """
async ([milliseconds, columns, rows]) => {
  const video = document.querySelector("video");
  // Date.now() falls behind by up to a millisecond: the largest difference is the true one.
  const clock = Math.max(...Array.from({ length: 5000 }, () => Date.now() - performance.now()));
  const cell = Math.floor(video.videoWidth / columns);
  const canvas = new OffscreenCanvas(columns * cell, rows * cell);
  const paper = canvas.getContext("2d", { willReadFrequently: true });
  const read = () => {
    paper.drawImage(video, 0, 0);
    const { data, width } = paper.getImageData(0, 0, canvas.width, canvas.height);
    let mark = 0;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const x = Math.floor((column + 0.5) * cell), y = Math.floor((row + 0.5) * cell);
        const level = data[4 * (y * width + x) + 1];
        if (level > 85 && level < 170) return null;
        mark = 2 * mark + (level > 127);
      }
    }
    return mark;
  };
  return await new Promise((resolve) => {
    const seen = [];
    const end = performance.now() + milliseconds;
    const finish = () => resolve(seen);
    const late = setTimeout(finish, milliseconds + 2000);
    video.requestVideoFrameCallback(function look(now, metadata) {
      seen.push({
        mark: read(),
        composed_ms: clock + metadata.presentationTime,
        shown_ms: clock + metadata.expectedDisplayTime,
        media_ms: 1000 * metadata.mediaTime,
        presented: metadata.presentedFrames,
      });
      if (now < end) return video.requestVideoFrameCallback(look);
      clearTimeout(late);
      finish();
    });
  });
}
"""
"""Returns what `Look` has for every picture that the page shows in so many milliseconds."""


def marked(picture: Array, mark: int) -> Array:
    """A copy of uint8 RGB [H, W, 3] with `mark`, of which bits above the 24th are left out."""
    cell = picture.shape[1] // COLUMNS
    bits = [mark >> place & 1 for place in reversed(range(COLUMNS * ROWS))]
    cells = np.array(bits, np.uint8).reshape(ROWS, COLUMNS) * 255
    strip = cells.repeat(cell, axis=0).repeat(cell, axis=1)
    copy = picture.copy()
    copy[: ROWS * cell, : COLUMNS * cell] = strip[..., None]
    return copy


def delay_ms(mark: int, at_ms: float) -> float:
    """How long after the moment of a mark `at_ms` is, milliseconds of the Unix time."""
    half = MODULUS // 2
    return float((at_ms - mark + half) % MODULUS - half)


class MarkedSession(LiveSession):
    """A live session whose pictures say when they are due."""

    async def frames(self) -> AsyncIterator[LiveFrame]:
        """Those of a live session, marked."""
        clock_s = time.time() - time.monotonic()
        async for frame in super().frames():
            due_ms = round(1e3 * (clock_s + frame.time_s))
            yield replace(frame, picture=marked(frame.picture, due_ms))
