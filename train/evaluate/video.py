"""A saved stream from outside: its frames and its sound, as the evaluation wants them.

T frames   S the picture's side
"""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from train.preset import SIZE
from train.world.speech import RATE


def _decoded(path: Path, kind: str, lacks: str) -> Iterator[Any]:
    """Frames of the first track of a kind, "audio" or "video"; ValueError if there are none."""
    try:
        with av.open(str(path)) as container:
            tracks = getattr(container.streams, kind)
            if not tracks:
                raise ValueError(f"{kind} {path} has no {lacks}")
            yield from container.decode(tracks[0])
    except (OSError, av.error.FFmpegError) as error:
        raise ValueError(f"{kind} {path} can't be read: {error}") from None


def read_sound(path: Path) -> np.ndarray:
    """float32 [n], 16 kHz, channels averaged. ValueError for a file without sound."""
    resampler, pieces = av.AudioResampler(format="fltp", rate=RATE), []
    for frame in chain(_decoded(path, "audio", "sound track"), [None]):
        pieces += [p.to_ndarray().mean(0) for p in resampler.resample(frame)]
    return np.clip(np.concatenate(pieces), -1, 1).astype(np.float32)


def read_video(path: Path, size: int = SIZE, piece: int = 125) -> Iterator[np.ndarray]:
    """uint8 [T, S, S, 3] piece by piece, brought down to `size` pixels by averaging squares.
    ValueError for a file without pictures, or whose sides are no multiples of `size`."""
    frames = (_small(frame, size, path) for frame in _decoded(path, "video", "pictures"))
    while waiting := list(islice(frames, piece)):
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
