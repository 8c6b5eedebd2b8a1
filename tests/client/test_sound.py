"""Whatever FFmpeg can decode is taken: any channels, joined files, damage; and what is lost is
said once."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

from live_avatar_client import VideoWriter, read_audio
from tests.support.sounds import tones, write_coded, write_wav

CASES = Path(__file__).parents[3] / "shared" / "cases"


def sound_of(path: Path) -> np.ndarray:
    return np.concatenate(list(read_audio(path)))


@pytest.mark.parametrize("num_channels", [1, 2, 3, 5, 7, 8, 9, 16, 24, 33, 64])
def test_any_number_of_channels_is_averaged(tmp_path: Path, num_channels: int) -> None:
    """Reading planes killed the process from eight channels on."""
    channels = tones(num_channels, 0.5, 16_000)
    path = write_wav(tmp_path / "many.wav", channels, 16_000)
    # Two 16-bit steps: writing cuts, reading scales by 32768.
    np.testing.assert_allclose(sound_of(path), channels.mean(axis=0), atol=2 / 32768)


@pytest.mark.parametrize(("suffix", "layout"), [("flac", "7.1"), ("m4a", "7.1"), ("opus", "7.1")])
def test_eight_coded_channels_become_sound_and_a_sound_track(
    tmp_path: Path, suffix: str, layout: str
) -> None:
    """The decoder's planes are laid out differently from those of a WAV file."""
    path = write_coded(tmp_path / f"a.{suffix}", tones(8, 1.0, 48_000), 48_000, layout)
    assert len(sound_of(path)) == pytest.approx(16_000, abs=1_000)  # the coders' padding
    video_with(path, tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.audio[0].layout.name == "stereo"


def video_with(path: Path, out: Path, num_frames: int = 25) -> None:
    with VideoWriter(out, audio_path=path) as writer:
        writer.write(np.zeros((num_frames, 32, 32, 3), np.uint8))


def test_too_many_channels_are_refused_with_the_number(tmp_path: Path) -> None:
    """FFmpeg's own answer is "Invalid argument"."""
    path = write_wav(tmp_path / "a.wav", tones(65, 0.1, 16_000), 16_000)
    with pytest.raises(ValueError, match=r"a\.wav .*65 channels at 16000 Hz, expected up to 64"):
        sound_of(path)


@pytest.mark.parametrize("rate", [1, 100, 2_000_000_000])
def test_an_impossible_rate_is_refused_before_memory_is(tmp_path: Path, rate: int) -> None:
    """One damaged byte would make hours out of a second, or a filter of gigabytes."""
    path = write_wav(tmp_path / "a.wav", tones(1, 0.5, 16_000), 16_000)
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.wav"):
        sound_of(path)


def test_numbers_that_are_none_become_silence(tmp_path: Path) -> None:
    """The server refuses NaN, and the AAC coder of the sound track fails on it."""
    samples = tones(1, 1.0, 16_000)
    samples[0, 5000:5010] = np.nan
    samples[0, 6000:6010] = np.inf
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    got = sound_of(path)
    assert np.isfinite(got).all()
    assert np.abs(got).max() <= 1
    video_with(path, tmp_path / "a.mp4")


def test_a_film_gives_its_sound(tmp_path: Path) -> None:
    """People have recordings of themselves, not sound files."""
    speech = write_wav(tmp_path / "a.wav", tones(1, 1.0, 16_000), 16_000)
    video_with(speech, tmp_path / "film.mp4")
    # AAC pads to frames of 1024 samples at both ends.
    assert len(sound_of(tmp_path / "film.mp4")) == pytest.approx(16_000, abs=2048)


@pytest.mark.parametrize(
    "name",
    ["a:b.wav", "data:x.wav", "http:foo.wav", "concat:a.wav", "-x.wav", "%d ü\n.wav", b"\xff.wav"],
)
def test_names_are_names(tmp_path: Path, name: str | bytes, monkeypatch) -> None:
    """A colon made a protocol out of a file in the current folder."""
    name = os.fsdecode(name)
    monkeypatch.chdir(tmp_path)
    source = write_wav(tmp_path / "plain.wav", tones(1, 1.0, 16_000), 16_000)
    source.rename(name)
    out = Path(name).with_suffix(".mp4")
    assert len(sound_of(Path(name))) == 16_000
    video_with(Path(name), out)
    assert out.stat().st_size > 0
    assert sorted(os.listdir()) == sorted([name, str(out)])


def test_a_name_is_one_line_in_every_message(tmp_path: Path) -> None:
    """Line breaks and bytes that are no text would break the one line, or printing it."""
    with pytest.raises(ValueError, match=r"a\\nb\\udcff\.wav is not a file") as caught:
        sound_of(tmp_path / "a\nb\udcff.wav")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.glob("*.[fmo][lpg][a3g]*")))
def test_the_given_cases_give_sound(case: str, tmp_path: Path) -> None:
    """Each one failed once."""
    assert np.abs(sound_of(CASES / case)).max() > 0.05
    video_with(CASES / case, tmp_path / "a.mp4")


@pytest.mark.skipif(not CASES.is_dir(), reason=f"no cases at {CASES}")
def test_there_are_cases() -> None:
    """An empty list of parameters would pass in silence."""
    assert list(CASES.glob("*.mp3"))
