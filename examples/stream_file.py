"""A picture and a sound file become a video.

    python examples/stream_file.py examples/portrait.png examples/speech.flac

`live-avatar stream` does the same, with figures and a progress bar.
"""

import argparse

from live_avatar_client import Session, VideoWriter, read_audio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", help="the face: PNG, JPEG, WebP, AVIF, BMP, GIF")
    parser.add_argument("audio", help="the speech: any file that FFmpeg decodes")
    parser.add_argument("--out", default="talk.mp4", help="the video to write (talk.mp4)")
    parser.add_argument("--url", default="127.0.0.1:8001", help="host:port of the server's gRPC")
    args = parser.parse_args()

    # idle=False: sound that comes late from a file is no pause of the speaker.
    session = Session(image=args.image, url=args.url, idle=False)
    writer = VideoWriter(args.out, audio_path=args.audio, scale=None)  # at least 256 pixels
    with writer, session:
        for block in session.stream(read_audio(args.audio)):
            writer.write(block.frames)  # uint8 [12, height, width, 3]
            print(f"block {block.block}: {writer.seconds:.2f} s of video")


if __name__ == "__main__":
    main()
