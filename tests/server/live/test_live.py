"""A live conversation with the real server: the mouth opens, is silent when it is told to, and
everything comes in pairs."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from live_avatar_client import AvatarError, LiveFrame, LiveSession, Session, read_audio
from live_avatar_client.live.exchange import LiveExchange
from live_avatar_client.live.orders import Order
from live_avatar_client.live.speech import as_int16
from live_avatar_client.live.statistics import LiveStatistics

pytestmark = [pytest.mark.triton, pytest.mark.slow]
EXAMPLES = Path(__file__).parents[3] / "examples"
PORTRAIT = EXAMPLES / "portrait.png"
MOUTH = (slice(52, 78), slice(30, 66))  # of the example portrait, 96 pixels wide


def mouth_moves(frames: list[LiveFrame]) -> float:
    """Mean change of a pixel of the mouth from frame to frame, grey levels."""
    mouths = np.stack([frame.picture[MOUTH] for frame in frames]).astype(float)
    return float(np.abs(np.diff(mouths, axis=0)).mean())


async def talk(url: str, said: np.ndarray) -> tuple[list[LiveFrame], dict, LiveStatistics]:
    """Two seconds idle, speech at once, interrupted after two seconds, two seconds idle."""
    seen, at_s = [], {}
    async with LiveSession(url=url, image=PORTRAIT, seed=3) as face:
        async for frame in face.frames():
            seen.append(frame)
            if frame.index == 50:
                at_s["fed"] = time.monotonic()
                face.feed(said)
            if frame.index == 100:
                at_s["stopped"] = time.monotonic()
                assert face.interrupt() == 1
            if frame.index == 150:
                return seen, at_s, face.statistics()
    raise AssertionError("the frames ended by themselves")


def test_a_face_answers_is_interrupted_and_rests(server: LocalServer) -> None:
    """The whole way: idle, onset, lips, barge-in, closed mouth."""
    said = np.concatenate(list(read_audio(EXAMPLES / "speech.flac")))
    seen, at_s, counted = asyncio.run(talk(server.grpc_url, said))
    assert [f.index for f in seen] == list(range(151))
    onset = next(f for f in seen if f.is_speech)
    assert onset.time_s - at_s["fed"] < 1.0, "far beyond a busy machine's block"
    speaking = [f for f in seen if f.is_speech]
    after = [f for f in seen if f.time_s > at_s["stopped"]]
    assert not any(f.sound.any() or f.is_speech for f in after)
    closed = [f for f in after if f.generation == 1]
    assert closed[0].time_s - at_s["stopped"] < 1.0
    idle, resting = mouth_moves(seen[10:50]), mouth_moves(closed[3:])
    assert mouth_moves(speaking) > 3 * max(idle, resting)
    pictures = np.stack([f.picture for f in seen[:50] if not f.is_held])
    assert (pictures[1:] != pictures[:-1]).any((1, 2, 3)).all(), "an idle face lives"
    assert counted.held == sum(f.is_held for f in seen)
    assert counted.first_frame_s is not None


def test_what_is_shown_is_what_a_file_would_give(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each frame is shown with the sound that it was made of, also in a block that was made again:
    the same stream sent at once agrees."""
    stream = np.empty(0, np.int16)
    send = LiveExchange.order

    def order(self: LiveExchange, order: Order) -> None:
        nonlocal stream
        kept = len(stream) if order.again is None else 7680 * order.again
        stream = np.concatenate([stream[:kept], order.sound])
        send(self, order)

    async def live() -> list[LiveFrame]:
        seen, fed = [], False
        async with LiveSession(url=server.grpc_url, image=PORTRAIT, seed=3) as face:
            async for frame in face.frames():
                if frame.index > 30 and frame.block != seen[-1].block and not fed:
                    face.feed(said)  # its block has just begun to be shown
                    fed = True
                seen.append(frame)
                if sum(f.is_speech for f in seen) == 40:
                    return seen
        raise AssertionError("the frames ended by themselves")

    monkeypatch.setattr(LiveExchange, "order", order)
    said = np.concatenate(list(read_audio(EXAMPLES / "speech.flac")))
    seen = [f for f in asyncio.run(live()) if f.is_speech]
    heard = np.concatenate([f.sound for f in seen])
    assert np.array_equal(heard, as_int16(said)[: len(heard)])
    with Session(
        url=server.grpc_url, image=PORTRAIT, seed=3, options={"live": True}, idle=False
    ) as session:
        made = np.concatenate([b.frames for b in session.stream([stream])])
    sounds = stream[: len(stream) // 640 * 640].reshape(-1, 640)
    first = 12 * seen[0].block
    begin = first + next(k for k in range(12) if np.array_equal(sounds[first + k], seen[0].sound))
    shown = np.stack([f.picture for f in seen])
    assert np.array_equal(shown, made[begin : begin + 40])


def test_a_closed_session_leaves_its_place_within_a_second(server: LocalServer) -> None:
    """The next visitor would hear that all places are in use."""

    async def look_in() -> float:
        async with LiveSession(url=server.grpc_url, image=PORTRAIT) as face:
            async for _ in face.frames():
                break
            return face.statistics().first_frame_s or 0.0

    async def visits() -> list[float]:
        found = []
        for _ in range(3):
            found += await asyncio.gather(look_in(), look_in())  # the server has two places
            await asyncio.sleep(1.0)  # docs/protocol.md: they are free within that
        return found

    assert all(0 < first_s < 5 for first_s in asyncio.run(visits()))


def test_one_visitor_too_many_is_told_so(server: LocalServer) -> None:
    """The words are the server's, and the way back is ours."""

    async def visit() -> None:
        await asyncio.sleep(1.0)  # places of sessions before are free within that
        faces = [LiveSession(url=server.grpc_url, image=PORTRAIT) for _ in range(3)]
        try:
            for face in faces[:2]:
                await face.open()
                await anext(face.frames())
            await faces[2].open()
            with pytest.raises(AvatarError, match=r"all 2 sessions.*open a new session"):
                await anext(faces[2].frames())
        finally:
            for face in faces:
                await face.close()

    asyncio.run(visit())
