"""Sound files for the client's tests, in any format, channel count and order of formats."""

import wave
from pathlib import Path

import av
import numpy as np

CODECS = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "mp3": "libmp3lame",
    "ogg": "vorbis",
    "opus": "libopus",
    "m4a": "aac",
    "mp4": "aac",
}


def tones(num_channels: int, seconds: float, rate: int, level: float = 0.5) -> np.ndarray:
    """float32 [channels, samples], every channel with a pitch of its own."""
    time_s = np.arange(round(seconds * rate)) / rate
    pitches = 200 + 20 * np.arange(num_channels)[:, None]
    return (level * np.sin(2 * np.pi * pitches * time_s)).astype(np.float32)


def write_wav(path: Path, channels: np.ndarray, rate: int) -> Path:
    """float32 [channels, samples] in [-1, 1] as plain 16-bit WAV, which names no channel."""
    with wave.open(str(path), "wb") as file:
        file.setparams((len(channels), 2, rate, 0, "NONE", ""))
        file.writeframes((channels.T * 32767).astype("<i2").tobytes())
    return path


def write_coded(path: Path, channels: np.ndarray, rate: int, layout: str) -> Path:
    """The same in the codec that the suffix names, with FFmpeg's name of the channel layout."""
    samples = np.ascontiguousarray((channels.T * 32767).astype(np.int16)).reshape(1, -1)
    options = {"strict": "experimental"}  # FFmpeg's own Vorbis encoder asks for it
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream(
            CODECS[path.suffix[1:]], rate=rate, layout=layout, options=options
        )
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def join(path: Path, *parts: Path) -> Path:
    """The bytes of all parts, one after the other."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path
