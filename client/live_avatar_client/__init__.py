"""Client of the streaming models: audio (`live_avatar`) or a prompt (`rolling_forcing`) in, video
out, block by block.

Names are imported when they are asked for, so that the command line can be interrupted from its
first moment without a traceback.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from live_avatar_client.actors import side_by_side
    from live_avatar_client.live.frame import LiveFrame
    from live_avatar_client.live.session import LiveSession
    from live_avatar_client.live.threaded import ThreadedLiveSession
    from live_avatar_client.protocol import AvatarError, Block
    from live_avatar_client.rolling import VideoStream
    from live_avatar_client.session import Session
    from live_avatar_client.sound.audio import read_audio
    from live_avatar_client.tls import Tls
    from live_avatar_client.video.pose import read_pose
    from live_avatar_client.video.writer import VideoWriter

__all__ = [
    "AvatarError",
    "Block",
    "LiveFrame",
    "LiveSession",
    "Session",
    "ThreadedLiveSession",
    "Tls",
    "VideoStream",
    "VideoWriter",
    "read_audio",
    "read_pose",
    "side_by_side",
]
__version__ = "0.1.0"

_HOMES = {
    "read_audio": "sound.audio",
    "read_pose": "video.pose",
    "side_by_side": "actors",
    "AvatarError": "protocol",
    "Block": "protocol",
    "LiveFrame": "live.frame",
    "LiveSession": "live.session",
    "ThreadedLiveSession": "live.threaded",
    "VideoStream": "rolling",
    "Session": "session",
    "VideoWriter": "video.writer",
    "Tls": "tls",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
