"""The release's places of audio features: those of a whole file at once."""

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.avatar.audio import FEATURE_RATE, Places


def release_places(num_hidden: int) -> Places:
    """The release's 30 per second features of a whole file, from its hidden frames.

    The last feature is stretched onto the last hidden frame ("align corners"), in single precision
    as there.
    """
    count = int(num_hidden / 50 * FEATURE_RATE)
    place = np.arange(count, dtype=np.float32) * np.float32((num_hidden - 1) / max(count - 1, 1))
    index = place.astype(np.int64)
    return index, (place - index).astype(np.float32)


def release_bucket(
    num_features: int, frames_per_clip: int, fps: int
) -> tuple[NDArray[np.int64], int | None]:
    """Which feature each video frame of a whole file takes in the release, and from where on zeros.

    As many clips as begin within the file, and one more. Frames from `zero_from` on lie after the
    last feature and take a zero vector; None if there are none.
    """
    num_clips = int(num_features / (frames_per_clip * FEATURE_RATE / fps)) + 1
    num_frames = num_clips * frames_per_clip
    length = num_frames / fps
    index = np.linspace(0, length, num_frames, endpoint=False) * FEATURE_RATE
    index = np.round(index).astype(np.int64).clip(max=math.ceil(length * FEATURE_RATE) - 1)
    beyond = np.flatnonzero(index >= num_features)
    return index, int(beyond[0]) if beyond.size else None
