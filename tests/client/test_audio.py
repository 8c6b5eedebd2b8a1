"""Sound files of any kind become mono 16 kHz float32 chunks."""

import itertools
import time
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from live_avatar_client.sound.audio import audio_seconds, paced, read_audio

CODECS = {"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame"}
TONE_HZ = 440.0


def write_sound(path: Path, channels: list[np.ndarray], rate: int) -> Path:
    """Write float32 channels in [-1, 1] as the file type that the suffix names."""
    samples = (np.stack(channels) * 32767).astype(np.int16)
    layout = {1: "mono", 2: "stereo"}[len(channels)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix[1:]], rate=rate, layout=layout)
        interleaved = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def tone(seconds: float, rate: int, level: float = 0.5) -> np.ndarray:
    time_s = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * TONE_HZ * time_s)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_every_rate_and_type_becomes_the_same_tone_at_16_khz(
    tmp_path: Path, suffix: str, rate: int
) -> None:
    """A wrong rate moves the pitch and the length, and with them the lips."""
    path = write_sound(tmp_path / f"tone.{suffix}", [tone(1.0, rate)], rate)
    audio = np.concatenate(list(read_audio(path)))
    assert audio.dtype == np.float32
    # MP3 pads to frames of up to 1152 samples at both ends; the others lose a filter's half width.
    slack = 2 * 1152 * 16_000 // rate if suffix == "mp3" else 32
    assert abs(len(audio) - 16_000) <= slack
    middle = audio[4000:12_000]
    peak_hz = np.argmax(np.abs(np.fft.rfft(middle))) * 16_000 / len(middle)
    assert abs(peak_hz - TONE_HZ) <= 2  # bins of 2 Hz
    # 16-bit steps and the resampler's ripple; MP3's quantisation is coarser.
    assert abs(np.abs(middle).max() - 0.5) <= (0.05 if suffix == "mp3" else 0.01)


def test_channels_are_averaged_and_stay_in_range(tmp_path: Path) -> None:
    """FFmpeg's own mix adds channels up: loud stereo would leave the wire's [-1, 1]."""
    loud = tone(0.5, 16_000, level=1.0)
    both = write_sound(tmp_path / "both.wav", [loud, loud], 16_000)
    one = write_sound(tmp_path / "one.wav", [loud, np.zeros_like(loud)], 16_000)
    mixed, halved = (np.concatenate(list(read_audio(p))) for p in (both, one))
    # One 16-bit step.
    np.testing.assert_allclose(mixed, loud, atol=1 / 16_384)
    np.testing.assert_allclose(halved, loud / 2, atol=1 / 16_384)


def test_chunk_size_changes_the_cuts_and_not_the_sound(tmp_path: Path) -> None:
    """A sample lost at a chunk's edge would let the picture run away from the sound."""
    path = write_sound(tmp_path / "tone.flac", [tone(0.7, 44_100)], 44_100)
    small, large = list(read_audio(path, chunk_ms=20)), list(read_audio(path, chunk_ms=5000))
    assert {len(chunk) for chunk in small[:-1]} == {320}
    assert len(large) == 1
    np.testing.assert_array_equal(np.concatenate(small), large[0])


def test_a_long_file_is_decoded_as_it_is_taken(tmp_path: Path) -> None:
    """An hour of speech must not be in memory, nor delay the first block."""
    path = write_sound(tmp_path / "long.wav", [np.zeros(16_000 * 600, np.float32)], 16_000)
    start_s = time.perf_counter()
    assert len(list(itertools.islice(read_audio(path), 3))) == 3
    first_s = time.perf_counter() - start_s
    assert sum(map(len, read_audio(path))) == 16_000 * 600
    assert first_s < (time.perf_counter() - start_s - first_s) / 4


def test_the_header_states_the_length(tmp_path: Path) -> None:
    """The progress bar's end comes from here."""
    path = write_sound(tmp_path / "tone.wav", [tone(0.5, 8_000)], 8_000)
    assert audio_seconds(path) == pytest.approx(0.5)


def test_paced_chunks_come_when_a_microphone_would_have_them() -> None:
    """Sent faster than speech, latency figures would describe a file and not a talk."""
    start_s = time.perf_counter()
    arrivals = [time.perf_counter() - start_s for _ in paced([np.zeros(1600, np.float32)] * 3)]
    assert all(arrival >= 0.1 * (i + 1) - 0.001 for i, arrival in enumerate(arrivals))


def test_files_without_usable_sound_are_named(tmp_path: Path) -> None:
    """The message says which file, and whether it is missing, silent or broken."""
    empty = tmp_path / "empty.wav"
    with wave.open(str(empty), "wb") as header_only:
        header_only.setparams((1, 2, 16_000, 0, "NONE", ""))
    with pytest.raises(ValueError, match=r"empty\.wav has a sound track of 0 samples"):
        list(read_audio(empty))
    (tmp_path / "text.wav").write_text("this is no sound file")
    with pytest.raises(ValueError, match=r"text\.wav can't be read"):
        list(read_audio(tmp_path / "text.wav"))
    with pytest.raises(ValueError, match=r"none\.wav is not a file"):
        list(read_audio(tmp_path / "none.wav"))
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 16
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"film\.mp4 has no sound track"):
        list(read_audio(tmp_path / "film.mp4"))
    with pytest.raises(ValueError, match="chunk_ms is 0"):
        list(read_audio(empty, chunk_ms=0))
