"""A pose video, read frame by frame as a session sends it."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.container
import numpy as np
from av.error import FFmpegError

from live_avatar_client.files import check_file, file_url, shown, words
from live_avatar_client.protocol import FPS, Array

MAX_PIXELS = 720 * 400
"""Larger frames are made smaller here: no video is larger, and they travel as they are."""

PICTURE_FORMAT = "_pipe"
"""How FFmpeg's names of single pictures' formats end. Each states a rate, which is FFmpeg's own."""


def check_pose(path: str | Path) -> None:
    """ValueError for what is no video, or one of another rate than the avatar's."""
    with _opened(path):
        pass


def read_pose(path: str | Path) -> Iterator[Array]:
    """Frames of a video of 25 frames per second, uint8 RGB [H, W, 3]; decoded while they are
    taken, upright where the file says how it was held. ValueError as `check_pose`, at the first
    one."""
    with _opened(path) as container:
        try:
            for frame in container.decode(video=0):
                scale = min(1.0, (MAX_PIXELS / (frame.width * frame.height)) ** 0.5)
                width, height = (max(int(s * scale), 1) for s in (frame.width, frame.height))
                picture = frame.to_ndarray(format="rgb24", width=width, height=height)
                yield np.rot90(picture, frame.rotation // 90)  # as a phone was held
        except (FFmpegError, OSError) as error:
            raise ValueError(f"pose {shown(path)} can't be decoded: {words(error)}") from None


def _opened(path: str | Path) -> av.container.InputContainer:
    check_file("pose", path)
    try:
        container = av.open(file_url(path))
    except (FFmpegError, OSError) as error:
        raise ValueError(f"pose {shown(path)} can't be read: {words(error)}") from None
    has_video = bool(container.streams.video)
    is_picture = container.format.name.endswith(PICTURE_FORMAT)
    rate = container.streams.video[0].average_rate if has_video else None
    if rate is not None and abs(rate - FPS) <= Fraction(1, 100) and not is_picture:
        return container
    container.close()
    if is_picture:
        raise ValueError(f"pose {shown(path)} is a picture, expected a video")
    if not has_video:
        raise ValueError(f"pose {shown(path)} has no video in it")
    told = "no known rate" if rate is None else f"{float(rate):g} frames per second"
    raise ValueError(
        f"pose {shown(path)} has {told}, expected {FPS}, those of the avatar's video; "
        f"convert it first: ffmpeg -i IN -r {FPS} OUT"
    )
