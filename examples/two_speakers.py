"""Two people in one picture talk in turns, each with a voice and a mask.

    python examples/two_speakers.py examples/speech.flac examples/speech.flac

The second one begins when the first has ended. Who does not speak is silent, and listens.
"""

import argparse
from pathlib import Path

import numpy as np

from live_avatar_client import Session, VideoWriter, read_audio, read_pose

TWO = Path(__file__).parent / "two"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", help="speech of the one on the left: any file that FFmpeg decodes")
    parser.add_argument("second", help="speech of the one on the right, who answers")
    parser.add_argument("--image", default=TWO / "picture.png", help="a picture of both")
    masks = [TWO / "left.png", TWO / "right.png"]
    parser.add_argument("--masks", nargs=2, default=masks, help="pictures, light where each one is")
    parser.add_argument("--pose", help="video to follow; the server needs POSE=1")
    parser.add_argument("--out", default="two.mp4", help="the video to write (two.mp4)")
    parser.add_argument("--url", default="127.0.0.1:8001", help="host:port of the server's gRPC")
    args = parser.parse_args()

    first, second = (np.concatenate(list(read_audio(path))) for path in (args.first, args.second))
    sound = np.zeros((2, len(first) + len(second)), np.float32)  # a row for each, on one clock
    sound[0, : len(first)], sound[1, len(first) :] = first, second
    pose = None if args.pose is None else read_pose(args.pose)
    session = Session(image=args.image, actors=args.masks, url=args.url, idle=False)
    writer = VideoWriter(args.out, sound_rate=16_000, scale=None)  # at least 256 pixels
    with writer, session:
        for block in session.stream([sound], pose=pose):
            writer.write(block.frames, (block.audio * 32767).astype(np.int16))  # both voices
            print(f"block {block.block}: {writer.seconds:.2f} s of video")


if __name__ == "__main__":
    main()
