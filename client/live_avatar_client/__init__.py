"""Client of the `live_avatar` Triton model: audio in, blocks of video frames out, as a stream."""

from live_avatar_client.audio import read_audio
from live_avatar_client.protocol import AvatarError, Block
from live_avatar_client.session import Session
from live_avatar_client.video import VideoWriter

__all__ = ["AvatarError", "Block", "Session", "VideoWriter", "read_audio"]
__version__ = "0.1.0"
