"""A microphone speaks, and blocks of video are shown as they come.

    python examples/stream_microphone.py --image examples/portrait.png --audio examples/speech.flac

A file plays the microphone. Put your own source in its place: any iterator of chunks will do.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np

from live_avatar_client import Session, VideoWriter, read_audio


def microphone(path: str) -> Iterator[np.ndarray]:
    """float32 [640] at 16 kHz, 40 ms each, when a microphone would have recorded them."""
    start_s = time.perf_counter()
    for number, chunk in enumerate(read_audio(path, chunk_ms=40), 1):
        time.sleep(max(0.0, start_s + 0.04 * number - time.perf_counter()))
        yield chunk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True, help="the face: PNG, JPEG, WebP, AVIF, BMP, GIF")
    parser.add_argument("--audio", required=True, help="what the microphone hears")
    parser.add_argument("--url", default="127.0.0.1:8001", help="host:port of the server's gRPC")
    parser.add_argument("--out", default="live.mp4", help="the video to write (live.mp4)")
    args = parser.parse_args()

    first_s = None
    with VideoWriter(args.out) as writer, Session(image=args.image, url=args.url) as session:
        for block in session.stream(microphone(args.audio)):
            # A player starts with the first block. A later one is late if its frames ran out.
            first_s = block.received_s if first_s is None else first_s
            late_s = block.received_s - (first_s + block.frame_index / 25)
            print(f"block {block.block}: {'late' if late_s > 0 else 'early'} {abs(late_s):.2f} s")
            writer.write(block.frames)  # show them; block.audio is their sound


if __name__ == "__main__":
    main()
