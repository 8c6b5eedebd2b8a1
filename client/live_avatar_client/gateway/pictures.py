"""A face's RGB as a player wants it: large enough, and in the colours of video.

Letters: H W picture size.
"""

from typing import Any

import av
import numpy as np

from live_avatar_client.protocol import Array

_MIN_SIDE = 288
"""Smaller pictures are enlarged: half of the colour's resolution is lost on the way, and a
browser's own enlarging is coarse."""
_BT709 = 1  # the number of BT.709 in H.264's colour fields
_LIMITED_RANGE = 1


def shown_size(height: int, width: int) -> tuple[int, int]:
    """(width, height) that is sent for such a picture: a whole multiple, both numbers even."""
    scale = max(1, -(-_MIN_SIDE // min(height, width)))
    return tuple(side * scale + side * scale % 2 for side in (width, height))  # type: ignore[return-value]


def video_frame(picture: Array) -> av.VideoFrame:
    """YUV 4:2:0 of uint8 RGB [H, W, 3]."""
    width, height = shown_size(*picture.shape[:2])
    colours: Any = {"dst_colorspace": _BT709, "dst_color_range": _LIMITED_RANGE}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(width, height, "yuv420p", interpolation="BICUBIC", **colours)
