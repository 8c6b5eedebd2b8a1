"""Client of the streaming models: audio (`live_avatar`) or a prompt (`rolling_forcing`) in, video
out, block by block."""

from live_avatar_client.audio import read_audio
from live_avatar_client.protocol import AvatarError, Block
from live_avatar_client.rolling import VideoStream
from live_avatar_client.session import Session
from live_avatar_client.video import VideoWriter

__all__ = ["AvatarError", "Block", "Session", "VideoStream", "VideoWriter", "read_audio"]
__version__ = "0.1.0"
