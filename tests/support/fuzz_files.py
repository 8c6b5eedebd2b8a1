"""Damaged files, drawn from seeds: sound, video with sound, and pictures made from the examples.

`original_files` encodes the examples, `damaged` breaks one; the same seed breaks it the same way.
Run as a program it reads files as the client would, and says so line by line:
`python -m tests.support.fuzz_files FOLDER NAME …`; a crash of it is seen by whoever started it.
"""

import faulthandler
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import av
import numpy as np

EXAMPLES = Path(__file__).parents[2] / "examples"
SOUND_CODECS = {
    "wav": "pcm_s16le",
    "mp3": "libmp3lame",
    "ogg": "vorbis",
    "opus": "libopus",
    "m4a": "aac",
    "aac": "aac",
    "flac": "flac",
    "wv": "wavpack",
    "caf": "alac",
    "aiff": "pcm_s16be",
    "ac3": "ac3",
}
FILMS = {"mp4": "aac", "mkv": "libopus"}
PICTURES = {"png": "png", "jpg": "mjpeg", "webp": "libwebp", "bmp": "bmp", "gif": "gif"}
PICTURE_FORMATS = {"mjpeg": "yuvj420p", "libwebp": "yuv420p", "bmp": "bgr24", "gif": "rgb8"}
LIMIT_S, LIMIT_MB = 10, 500
_RATE = 48_000


def original_files(folder: Path, seconds: float = 2.0) -> dict[str, Path]:
    """`speech.<suffix>`, `film.<suffix>` and `portrait.<suffix>` in every kind, by name."""
    frames = _speech_frames(seconds)
    files = {}
    for suffix, codec in SOUND_CODECS.items():
        files[f"speech.{suffix}"] = _write_sound(folder / f"speech.{suffix}", codec, frames)
    for suffix, codec in FILMS.items():
        files[f"film.{suffix}"] = _write_sound(folder / f"film.{suffix}", codec, frames, film=True)
    for suffix, codec in PICTURES.items():
        files[f"portrait.{suffix}"] = _write_picture(folder / f"portrait.{suffix}", codec)
    return files


def damaged(data: bytes, seed: int) -> bytes:
    """The file after one to three accidents."""
    draw = np.random.default_rng(seed)
    for _ in range(draw.integers(1, 4)):
        data = ACCIDENTS[draw.integers(len(ACCIDENTS))](data, draw) or data
    return data


def damaged_files(originals: Mapping[str, Path], count: int) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of so many files, the kinds in turn; the name carries the seed."""
    names = sorted(originals)
    contents = {name: originals[name].read_bytes() for name in names}
    for seed in range(count):
        stem, suffix = names[seed % len(names)].split(".")
        yield f"{stem}-{seed}.{suffix}", damaged(contents[f"{stem}.{suffix}"], seed)


def _flip(data: bytes, draw: np.random.Generator) -> bytes:
    """Single bits, up to one in a hundred bytes."""
    flipped = bytearray(data)
    for place in draw.integers(len(data), size=draw.integers(1, 2 + len(data) // 100)):
        flipped[place] ^= 1 << draw.integers(8)
    return bytes(flipped)


def _cut(data: bytes, draw: np.random.Generator) -> bytes:
    return data[: draw.integers(len(data) + 1)]


def _behead(data: bytes, draw: np.random.Generator) -> bytes:
    return data[draw.integers(1, 2 + len(data) // 4) :]


def _zero(data: bytes, draw: np.random.Generator) -> bytes:
    begin, end = _range(data, draw)
    return data[:begin] + bytes(end - begin) + data[end:]


def _noise(data: bytes, draw: np.random.Generator) -> bytes:
    begin, end = _range(data, draw)
    return data[:begin] + draw.bytes(end - begin) + data[end:]


def _remove(data: bytes, draw: np.random.Generator) -> bytes:
    begin, end = _range(data, draw)
    return data[:begin] + data[end:]


def _swap(data: bytes, draw: np.random.Generator) -> bytes:
    a, b, c = sorted(int(place) for place in draw.integers(len(data) + 1, size=3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _double(data: bytes, draw: np.random.Generator) -> bytes:
    return data + data[draw.integers(2) * draw.integers(len(data) + 1) :]


def _header(data: bytes, draw: np.random.Generator) -> bytes:
    """A byte or a number of 32 bits among the first ones becomes another or an extreme one."""
    place = int(draw.integers(min(len(data), 256)))
    extremes = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\1\0\0\0", b"\xff", b"\0"]
    value = [*extremes, draw.bytes(1), draw.bytes(4)][draw.integers(len(extremes) + 2)]
    return data[:place] + value + data[place + len(value) :]


ACCIDENTS = (_flip, _cut, _behead, _zero, _noise, _remove, _swap, _double, _header, _header)


def _range(data: bytes, draw: np.random.Generator) -> tuple[int, int]:
    begin = int(draw.integers(len(data) + 1))
    return begin, min(len(data), begin + int(draw.integers(1, 2 + len(data) // 8)))


def _speech_frames(seconds: float) -> list[av.AudioFrame]:
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=_RATE)
    frames: list[av.AudioFrame] = []
    with av.open(str(EXAMPLES / "speech.flac")) as container:
        for frame in container.decode(audio=0):
            frames += resampler.resample(frame)
            if sum(piece.samples for piece in frames) > seconds * _RATE:
                break
    return frames


def _write_sound(
    path: Path, codec: str, frames: list[av.AudioFrame], *, film: bool = False
) -> Path:
    with av.open(str(path), "w") as container:
        if film:
            video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
        options = {"strict": "experimental"}  # FFmpeg's own Vorbis encoder asks for it
        sound = container.add_stream(codec, rate=_RATE, layout="stereo", options=options)
        if film:
            for number in range(25):
                picture = np.full((64, 64, 3), 8 * number, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(video.encode(None))
        for frame in frames:
            frame.pts = None
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def _write_picture(path: Path, codec: str) -> Path:
    with av.open(str(EXAMPLES / "portrait.png")) as source:
        picture = next(source.decode(video=0))
    form = {"gif": "gif"}.get(path.suffix[1:], "image2")
    with av.open(
        str(path), "w", format=form, options={"update": "1"} if form != "gif" else {}
    ) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height = picture.width, picture.height
        stream.pix_fmt = PICTURE_FORMATS.get(codec, "rgb24")
        out.mux(stream.encode(picture.reformat(format=stream.pix_fmt)))
        out.mux(stream.encode(None))
    return path


def read_as_client(path: Path) -> str:
    """What the client makes of it; only a ValueError of one line may stop it."""
    said = []
    for attempt in (_sound_of, _video_with):
        try:
            said.append(attempt(path))
        except ValueError as error:
            said.append(str(error))
    # Not an assertion in the handler: whoever started the process reads it like a crash.
    if any("\n" in words for words in said):
        raise RuntimeError(f"an error of several lines: {said}")
    return "; ".join(said)


def _sound_of(path: Path) -> str:
    from live_avatar_client import read_audio

    return f"{sum(map(len, read_audio(path)))} samples"


def _video_with(path: Path) -> str:
    from live_avatar_client import VideoWriter

    with VideoWriter(path.with_suffix(".out.mp4"), audio_path=path) as writer:
        for _ in range(3):
            writer.write(np.zeros((12, 32, 32, 3), np.uint8))
    return f"{writer.num_frames} frames"


def main(folder: Path, names: list[str]) -> None:
    """A line when a file begins and one when it ends: time, growth of the peak memory, outcome."""
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for name in names:
        print("begin", name, flush=True)
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)  # in C code, too
        start_s = time.perf_counter()
        outcome = read_as_client(folder / name)
        faulthandler.cancel_dump_traceback_later()
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert peak_mb - before_mb < LIMIT_MB, f"{peak_mb - before_mb:.0f} MB for {name}"
        print("end", name, f"{time.perf_counter() - start_s:.2f} s, {peak_mb:.0f} MB:", outcome)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
