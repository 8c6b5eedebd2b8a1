"""A saved stream from outside: its frames and its sound, as the evaluation wants them.

T frames   S the picture's side
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from train.preset import SIZE
from train.world.speech import RATE


def read_sound(path: Path) -> np.ndarray:
    """float32 [n], 16 kHz, channels averaged. ValueError for a file without sound."""
    pieces = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"audio {path} has no sound track")
            resampler = av.AudioResampler(format="fltp", rate=RATE)
            for frame in container.decode(container.streams.audio[0]):
                pieces += [p.to_ndarray().mean(0) for p in resampler.resample(frame)]
            pieces += [p.to_ndarray().mean(0) for p in resampler.resample(None)]
    except (OSError, av.error.FFmpegError) as error:
        raise ValueError(f"audio {path} can't be read: {error}") from None
    return np.clip(np.concatenate(pieces), -1, 1).astype(np.float32)


def read_video(path: Path, size: int = SIZE, piece: int = 125) -> Iterator[np.ndarray]:
    """uint8 [T, S, S, 3] piece by piece, brought down to `size` pixels by averaging squares.
    ValueError for a file without pictures, or whose sides are no multiples of `size`."""
    waiting: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"video {path} has no pictures")
            for frame in container.decode(container.streams.video[0]):
                waiting.append(_small(frame, size, path))
                if len(waiting) == piece:
                    yield np.stack(waiting)
                    waiting = []
    except (OSError, av.error.FFmpegError) as error:
        raise ValueError(f"video {path} can't be read: {error}") from None
    if waiting:
        yield np.stack(waiting)


def _small(frame: av.VideoFrame, size: int, path: Path) -> np.ndarray:
    if frame.width % size or frame.height % size or frame.width != frame.height:
        raise ValueError(
            f"video {path} is {frame.width}x{frame.height}, wanted a square whose side is a "
            f"multiple of {size}"
        )
    picture = frame.reformat(format="rgb24", interpolation="BICUBIC").to_ndarray()
    scale = frame.width // size
    squares = picture.reshape(size, scale, size, scale, 3)
    return squares.mean((1, 3)).round().astype(np.uint8)
