"""A peer of aiortc in a browser's place: what does it see and hear, and is it heard?"""

import asyncio
import time
from collections.abc import Callable
from fractions import Fraction

import aioice.ice
import av
import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription

from live_avatar_client.gateway.webrtc import WebRtcOutlet
from live_avatar_client.protocol import Array
from tests.client.gateway.fake_face import FakeFace
from tests.client.gateway.test_conversation import tone

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioice leaves 127.0.0.1 out, which is all that a machine without a network has."""
    found: Callable[..., list[str]] = aioice.ice.get_host_addresses
    monkeypatch.setattr(
        aioice.ice, "get_host_addresses", lambda **kinds: ["127.0.0.1", *found(**kinds)]
    )


class Voice(MediaStreamTrack):
    """A microphone with a tone in it."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._samples, self._begun_s, self._at = tone(10, 48_000), time.monotonic(), 0

    async def recv(self) -> av.AudioFrame:
        await asyncio.sleep(max(0.0, self._begun_s + self._at / 48_000 - time.monotonic()))
        piece = self._samples[None, self._at : self._at + 960]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self._at, Fraction(1, 48_000)
        self._at += 960
        return frame


async def visit(
    seconds: float,
) -> tuple[list[tuple[float, float]], list[tuple[float, float]], Array]:
    """(arrival, mean brightness) of pictures, (arrival, loudness) of sound, what the gateway heard.
    The face speaks from the middle on."""
    heard: list[Array] = []
    seen: list[tuple[float, float]] = []
    sounded: list[tuple[float, float]] = []
    outlet = WebRtcOutlet([], lambda frame: heard.append(frame.to_ndarray()[0, ::2]))
    page = RTCPeerConnection()
    page.addTransceiver("video", direction="recvonly")
    page.addTrack(Voice())
    watching: list[asyncio.Task[None]] = []

    async def watch(track: MediaStreamTrack) -> None:
        while True:
            frame = await track.recv()
            if track.kind == "video":
                seen.append((time.monotonic(), frame.to_ndarray(format="gray").mean()))
            else:
                sounded.append((time.monotonic(), np.abs(frame.to_ndarray()).max() / 32768))

    page.on("track", lambda track: watching.append(asyncio.create_task(watch(track))))
    await page.setLocalDescription(await page.createOffer())
    answer = await outlet.answer(page.localDescription.sdp)
    await page.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
    async with FakeFace() as face:
        async for frame in face.frames():
            await outlet.show(frame)
            if frame.index == round(25 * seconds / 2):
                face.feed(tone(seconds))
            if frame.index >= 25 * seconds:
                break
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    await page.close()
    await outlet.close()
    return seen, sounded, np.concatenate(heard)


def test_a_peer_sees_hears_and_is_heard() -> None:
    """Tracks that were added too late are left out of the answer, and nothing comes, silently."""
    seen, sounded, heard = asyncio.run(visit(4.0))
    rate = (len(seen) - 1) / (seen[-1][0] - seen[0][0])
    assert rate == pytest.approx(25, abs=1.5)
    bright_s = next(at for at, value in seen if value > 128)
    loud_s = next(at for at, value in sounded if value > 0.1)
    # aiortc's receiver holds sound in a jitter buffer of four packets, 80 ms, and pictures in none
    assert 0.0 < loud_s - bright_s < 0.16
    spectrum = np.abs(np.fft.rfft(heard[-48_000:]))
    assert spectrum.argmax() * 48_000 / len(heard[-48_000:]) == pytest.approx(300, abs=3)


@pytest.mark.parametrize("sdp", ["", "v=0", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nm=video x\r\n"])
def test_an_offer_that_is_none_is_refused_in_words(sdp: str) -> None:
    """aiortc asserts and indexes: a visitor would see a failure of the gateway."""

    async def run() -> None:
        outlet = WebRtcOutlet([], lambda frame: None)
        with pytest.raises(ValueError, match="offer can't be answered"):
            await outlet.answer(sdp)
        await outlet.close()

    asyncio.run(run())
