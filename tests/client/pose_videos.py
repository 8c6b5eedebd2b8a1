"""Small pose videos."""

from pathlib import Path

import av
import numpy as np


def pose_video(
    path: Path, rate: int = 25, size: tuple[int, int] = (64, 48), frames: int = 10
) -> Path:
    """Frames whose right half brightens, ten to a round."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(frames):
            picture = np.zeros((size[1], size[0], 3), np.uint8)
            picture[:, size[0] // 2 :] = 20 * (index % 10)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def held_sideways(path: Path) -> Path:
    """The file says that its frames are to be turned by a quarter clockwise, as phones do."""
    whole = 1 << 16
    upright, turned = (whole, 0, 0, 0, whole), (0, whole, 0, -whole, 0)
    content, (old, new) = path.read_bytes(), (_matrix(*values) for values in (upright, turned))
    movie, track, rest = content.split(old)
    path.write_bytes(old.join([movie, track]) + new + rest)
    return path


def _matrix(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big", signed=True) for value in values)
