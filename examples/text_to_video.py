"""A prompt becomes a video, and another prompt takes over half-way.

    python examples/text_to_video.py --prompt "dawn at sea" --then "noon at sea"

`live-avatar generate` does the same, with figures and a progress bar.
"""

import argparse

from live_avatar_client import VideoStream, VideoWriter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", required=True, help="what the video shows")
    parser.add_argument("--then", required=True, help="what its second half shows")
    parser.add_argument(
        "--blocks", type=int, default=12, help="length; 12 frames each, the first 9"
    )
    parser.add_argument("--out", default="scene.mp4", help="the video to write (scene.mp4)")
    parser.add_argument("--url", default="127.0.0.1:8001", help="host:port of the server's gRPC")
    args = parser.parse_args()

    half = args.blocks // 2
    stream = VideoStream(prompt=args.prompt, options={"blocks": args.blocks}, url=args.url)
    with VideoWriter(args.out, fps=16, scale=None) as writer, stream:
        for block in stream.blocks(half):  # nothing is made that was not asked for
            writer.write(block.frames)
        for block in stream.finish(args.blocks - half, prompt=args.then):
            writer.write(block.frames)
    print(f"{args.out}: {writer.seconds:.2f} s")


if __name__ == "__main__":
    main()
