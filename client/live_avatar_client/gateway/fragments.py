"""Fragmented MP4 for a WebSocket: H.264 and Opus, one fragment a frame.

One frame is held back (40 ms). `frag_duration` of a microsecond makes a fragment of every frame;
FFmpeg's own `frag_every_frame` stamps pictures one frame late where a second track is. AAC would
lose every eighth frame in Chromium.
"""

import threading
from fractions import Fraction

import av
import av.audio
import av.video
import numpy as np

from live_avatar_client.gateway.pictures import shown_size, video_frame
from live_avatar_client.protocol import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, Array

MIME = 'video/mp4; codecs="avc1.42C01F,opus"'
"""Constrained baseline, level 3.1, whatever the picture's size."""
_FORMAT = {"movflags": "empty_moov+default_base_moof", "frag_duration": "1"}
_QUALITY = {
    "preset": "veryfast",
    "tune": "zerolatency",
    "crf": "21",
    "level": "31",
    "maxrate": "2000k",  # sharp from the first frame, and bounded afterwards
    "bufsize": "1000k",
    "threads": "1",
}
_GOP = 2 * FPS


class _Pieces:
    """The file that FFmpeg writes to. It knows no container: PyAV's are never freed in a ring."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


class Fragments:
    """One encoder of frames of one size; `add` takes a millisecond or two. Any thread may call."""

    def __init__(self, height: int, width: int) -> None:
        self._encoding = threading.Lock()  # a thread whose caller was cancelled works on
        self._pieces = _Pieces()
        self._container = av.open(self._pieces, "w", format="mp4", options=_FORMAT)
        self._video = self._container.add_stream("libx264", rate=FPS, options=_QUALITY)
        self._video.width, self._video.height = shown_size(height, width)
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.profile = "Baseline"
        self._video.codec_context.gop_size = _GOP
        self._sound = self._container.add_stream("libopus", rate=48_000, layout="mono")
        self._sound.bit_rate = 64_000

    def add(self, tick: int, picture: Array, sound: Array) -> bytes:
        """Bytes that are ready after frame number `tick`: uint8 RGB [H, W, 3] and its int16 [640].
        Ticks that are left out leave the last picture standing."""
        video = video_frame(picture)
        video.pts, video.time_base = tick, Fraction(1, FPS)
        audio = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None]), "s16", "mono")
        audio.sample_rate = SAMPLE_RATE
        audio.pts, audio.time_base = tick * SAMPLES_PER_FRAME, Fraction(1, SAMPLE_RATE)
        with self._encoding:
            self._container.mux(self._video.encode(video))
            self._container.mux(self._sound.encode(audio))
            return self._pieces.take()

    def finish(self) -> bytes:
        """The last bytes; nothing can be added afterwards."""
        with self._encoding:
            self._container.mux(self._video.encode(None))
            self._container.mux(self._sound.encode(None))
            self._container.close()
            return self._pieces.take()
