"""WebRTC by aiortc: the face's picture and sound go down, the microphone comes up.

Lip sync follows the moment of sending, not time stamps: picture and sound of a frame are handed to
both tracks at once, and no track may lag.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.codecs import vpx
from aiortc.mediastreams import MediaStreamError

from live_avatar_client.gateway.pictures import video_frame
from live_avatar_client.live.frame import LiveFrame
from live_avatar_client.protocol import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

_log = logging.getLogger(__name__)
_MAX_HELD = 10
"""Frames that a track keeps for a slow sender; then the oldest ones go."""
_HALF = SAMPLES_PER_FRAME // 2  # 20 ms: what a packet of Opus holds

vpx.DEFAULT_BITRATE = vpx.MAX_BITRATE = 1_500_000  # bits per second: sharp from the first frame
vpx.MIN_BITRATE = 1_200_000
"""Near each other: aiortc begins a new stream with a key frame whenever the target moves by a
tenth, and browsers follow what is sent rather than what the line bears."""


class Track(MediaStreamTrack):
    """Frames that are sent the moment they are put in."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self._frames: asyncio.Queue[av.VideoFrame | av.AudioFrame] = asyncio.Queue(_MAX_HELD)

    def put(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        if self._frames.full():
            self._frames.get_nowait()
        self._frames.put_nowait(frame)

    async def recv(self) -> av.VideoFrame | av.AudioFrame:
        """The next frame; what aiortc's sender calls."""
        if self.readyState != "live":
            raise MediaStreamError
        return await self._frames.get()


class WebRtcOutlet:
    """One browser, by UDP. `heard` gets its microphone's sound as aiortc decodes it."""

    def __init__(
        self, ice: Sequence[Mapping[str, str]], heard: Callable[[av.AudioFrame], None]
    ) -> None:
        servers = [RTCIceServer(**server) for server in ice]
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._heard = heard
        self._listening: asyncio.Task[None] | None = None
        self._video, self._audio = Track("video"), Track("audio")
        self._connection.add_listener("track", self._on_track)

    async def answer(self, sdp: str) -> str:
        """The answer to a page's offer; ValueError where it is none, and for a second one."""
        if self._connection.getSenders():
            raise ValueError("a second offer came on one connection")
        for track in (self._video, self._audio):  # later they would be left out
            self._connection.addTrack(track)
        try:
            offer = RTCSessionDescription(sdp=sdp, type="offer")
            await self._connection.setRemoteDescription(offer)
            await self._connection.setLocalDescription(await self._connection.createAnswer())
        except Exception:  # aiortc asserts, indexes and unpacks what came
            _log.debug("offer refused", exc_info=True)
            raise ValueError("the offer can't be answered: it is none of WebRTC") from None
        return str(self._connection.localDescription.sdp)

    async def show(self, frame: LiveFrame) -> None:
        video = await asyncio.to_thread(video_frame, frame.picture)
        video.pts, video.time_base = frame.index, Fraction(1, FPS)
        self._video.put(video)
        for begin in (0, _HALF):
            half = np.ascontiguousarray(frame.sound[None, begin : begin + _HALF])
            audio = av.AudioFrame.from_ndarray(half, "s16", "mono")
            audio.sample_rate = SAMPLE_RATE
            audio.pts = frame.index * SAMPLES_PER_FRAME + begin
            audio.time_base = Fraction(1, SAMPLE_RATE)
            self._audio.put(audio)

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._connection.close()

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio" and self._listening is None:
            self._listening = asyncio.create_task(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.AudioFrame)
                self._heard(frame)
