"""A face for a LiveKit agent, without any account: a stand-in room, whose visitor is a film.

    python examples/livekit_avatar.py --image examples/portrait.png --audio examples/speech.flac

In a real agent, `room` is `context.room` of the job, and its session has speech models.
"""

import argparse
import asyncio
from types import SimpleNamespace

import numpy as np
from livekit import rtc
from livekit.agents import Agent, AgentSession

from live_avatar_client import VideoWriter, read_audio
from live_avatar_client.agents.livekit import LiveAvatarSession


class StandInRoom(rtc.EventEmitter):
    """As much of a room as a face needs; `tracks` are what a visitor would get."""

    def __init__(self) -> None:
        super().__init__()
        self.tracks, self.local_participant = {}, self

    def isconnected(self) -> bool:
        return True

    async def publish_track(self, track: rtc.Track, _options: rtc.TrackPublishOptions):
        self.tracks[track.name] = track
        return SimpleNamespace(wait_for_subscription=lambda: asyncio.sleep(0))


async def film(room: StandInRoom, writer: VideoWriter) -> None:
    """Write what a visitor would see and hear, 40 ms after 40 ms."""
    pictures = rtc.VideoStream(room.tracks["avatar_video"], format=rtc.VideoBufferType.RGB24)
    sounds = rtc.AudioStream(room.tracks["avatar_audio"], sample_rate=16_000, frame_size_ms=40)
    async for heard in sounds:
        seen = (await anext(pictures)).frame
        picture = np.frombuffer(seen.data, np.uint8).reshape(1, seen.height, seen.width, 3)
        writer.write(picture, np.frombuffer(heard.frame.data, np.int16))


async def spoken(path: str):
    """A sentence as text-to-speech gives it: in pieces, far faster than it is spoken."""
    for chunk in read_audio(path):
        samples = (32767 * chunk).astype(np.int16)
        yield rtc.AudioFrame(samples.tobytes(), 16_000, 1, len(samples))


async def main(args: argparse.Namespace) -> None:
    room, session = StandInRoom(), AgentSession()
    avatar = LiveAvatarSession(image=args.image, url=args.url)
    await avatar.start(session, room=room)
    await session.start(Agent(instructions="You have a face."))
    await asyncio.sleep(1)
    with VideoWriter(args.out, sound_rate=16_000, scale=None) as writer:
        filming = asyncio.create_task(film(room, writer))
        session.say("A long story", audio=spoken(args.audio))
        await asyncio.sleep(4)
        await session.interrupt()
        await asyncio.sleep(1)
        await session.say("The story again", audio=spoken(args.audio))
        filming.cancel()
    print(avatar.generator.face.statistics())
    await session.aclose()
    await avatar.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True, help="the face")
    parser.add_argument("--audio", required=True, help="what the agent says")
    parser.add_argument("--url", default="127.0.0.1:8001", help="host:port of the server's gRPC")
    parser.add_argument("--out", default="agent.mp4", help="the video to write (agent.mp4)")
    asyncio.run(main(parser.parse_args()))
