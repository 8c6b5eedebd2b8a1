"""A voice agent talks, thinks, is interrupted and talks again; the face lives all the while.

    python examples/talk_live.py --image examples/portrait.png --audio examples/speech.flac

A file plays the agent, whose speech comes in bursts. Feed what your own synthesiser gives.
"""

import argparse
import asyncio

import numpy as np

from live_avatar_client import LiveSession, VideoWriter, read_audio


async def agent(face: LiveSession, sentence: np.ndarray) -> None:
    await asyncio.sleep(1.5)  # it listens
    face.feed(sentence)
    await asyncio.sleep(3.0)
    print("interrupted: generation", face.interrupt())
    await asyncio.sleep(1.0)
    face.feed(sentence[: len(sentence) // 3])


async def talk(args: argparse.Namespace) -> None:
    sentence = np.concatenate(list(read_audio(args.audio)))
    with VideoWriter(args.out, sound_rate=16_000, scale=None) as writer:
        async with LiveSession(image=args.image, url=args.url) as face:
            talking = asyncio.create_task(agent(face, sentence))
            async for frame in face.frames():  # show frame.picture and play frame.sound, now
                writer.write(frame.picture[None], frame.sound)
                if frame.index >= args.seconds * 25:
                    break
            await talking
            print(face.statistics())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True, help="the face: PNG, JPEG, WebP, AVIF, BMP, GIF")
    parser.add_argument("--audio", required=True, help="what the agent says")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the talk (10)")
    parser.add_argument("--url", default="127.0.0.1:8001", help="host:port of the server's gRPC")
    parser.add_argument("--out", default="talk.mp4", help="the video to write (talk.mp4)")
    asyncio.run(talk(parser.parse_args()))
