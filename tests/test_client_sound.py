"""Whatever FFmpeg can decode is taken: any channels, joined files, damage; and what is lost is
said once."""

from __future__ import annotations

import logging
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from live_avatar_client import VideoWriter, read_audio
from live_avatar_client.audio import audio_seconds
from live_avatar_client.sound import decode_sound
from tests.sounds import join, tones, write_coded, write_wav

LAYOUTS = {1: "mono", 2: "stereo"}
CASES = Path(__file__).parents[2] / "shared" / "cases"


def sound_of(path: Path) -> np.ndarray:
    return np.concatenate(list(read_audio(path)))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


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


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "opus", "flac", "wav"])
@pytest.mark.parametrize("second", [(48_000, 1), (44_100, 2), (44_100, 1), (24_000, 2)])
def test_joined_files_are_read_to_the_end(
    tmp_path: Path, suffix: str, second: tuple[int, int]
) -> None:
    """Recorders and `cat` make such files; rate and channels may change at the seam."""
    rates = (48_000, 48_000) if suffix == "opus" else (44_100, second[0])  # Opus knows no other
    counts = (2, 2) if suffix == "ogg" else (1, second[1])  # nor FFmpeg's Vorbis coder mono
    one, two = (
        write_coded(tmp_path / f"{i}.{suffix}", tones(count, i, rate), rate, LAYOUTS[count])
        for i, rate, count in zip((2, 3), rates, counts, strict=True)
    )
    both = join(tmp_path / f"both.{suffix}", one, two)
    # MP3 pads both parts by up to 0.1 s in all, and its header frame of the second is no sound.
    wanted = len(sound_of(one)) + len(sound_of(two))
    assert len(sound_of(both)) == pytest.approx(wanted, abs=1600)
    video_with(both, tmp_path / "a.mp4", num_frames=120)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.audio[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(4.8, abs=0.1)


def test_links_of_a_chained_ogg_are_told_by_their_headers(tmp_path: Path) -> None:
    """The progress bar's end: FFmpeg's figure for the whole is off."""
    one = write_coded(tmp_path / "1.ogg", tones(2, 1.0, 44_100), 44_100, "stereo")
    two = write_coded(tmp_path / "2.opus", tones(1, 2.0, 48_000), 48_000, "mono")
    both = join(tmp_path / "both.ogg", one, two, one)
    assert audio_seconds(both) == pytest.approx(4.0, abs=0.05)
    assert len(sound_of(both)) == pytest.approx(64_000, abs=800)


def damage(path: Path, at: float, num_bytes: int) -> Path:
    """Overwrite bytes from this fraction of the file on."""
    data = bytearray(path.read_bytes())
    begin = int(at * len(data))
    data[begin : begin + num_bytes] = b"\x55" * num_bytes
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "m4a"])
def test_damaged_packets_are_skipped_with_one_warning(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One bad sector must not cost the rest of a talk, nor be passed over without a word."""
    path = write_coded(tmp_path / f"a.{suffix}", tones(2, 8.0, 44_100), 44_100, "stereo")
    whole = len(sound_of(path))
    assert not warnings_of(caplog)
    damage(path, 0.4, 300)
    video_with(path, tmp_path / "a.mp4", num_frames=200)
    got = len(sound_of(path))
    assert 0.5 * whole < got <= whole + 1600
    if got < whole - 160:
        (warning,) = warnings_of(caplog)
        assert f"a.{suffix} is damaged: " in warning


@pytest.mark.parametrize("suffix", ["mp3", "flac", "wav"])
def test_a_file_that_was_cut_off_ends_there_with_one_warning(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a download looks like a whole, short talk."""
    path = write_coded(tmp_path / f"a.{suffix}", tones(1, 8.0, 16_000), 16_000, "mono")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert len(sound_of(path)) == pytest.approx(64_000, rel=0.2)  # by bytes, not by time
    (warning,) = warnings_of(caplog)
    assert "are missing" in warning


def test_sound_and_sound_track_lose_the_same(tmp_path: Path) -> None:
    """Lips follow the one, ears the other: a packet left out of one of them parts the two."""
    path = write_coded(tmp_path / "a.mp3", tones(2, 8.0, 44_100), 44_100, "stereo")
    damage(path, 0.3, 4000)
    heard = Fraction(sum(p.shape[1] for p in decode_sound(path, 48_000, layout="stereo")), 48_000)
    assert float(heard) == pytest.approx(len(sound_of(path)) / 16_000, abs=0.001)


def test_a_disk_that_fails_in_mid_file_keeps_what_came(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The talk so far is worth more than an error."""
    path = write_coded(tmp_path / "a.flac", tones(1, 8.0, 16_000), 16_000, "mono")

    real = av.container.InputContainer

    class Failing:
        """A container whose demuxer fails for good after ten packets."""

        def __init__(self, container: real) -> None:
            self.container, self.left = container, 10

        def demux(self, stream: object):
            for packet in self.container.demux(stream):
                if not self.left:
                    raise OSError(5, "Input/output error")
                self.left -= 1
                yield packet

    from live_avatar_client import sound

    packets = sound._packets
    monkeypatch.setattr(sound, "_packets", lambda c, s, losses: packets(Failing(c), s, losses))
    assert 0 < len(sound_of(path)) < 8 * 16_000
    (warning,) = warnings_of(caplog)
    assert "breaks off" in warning
    assert "Input/output error" in warning


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "m4a", "opus"])
def test_what_holds_no_sound_at_all_is_one_line(tmp_path: Path, suffix: str) -> None:
    """The header is whole, everything behind it is noise."""
    path = write_coded(tmp_path / f"a.{suffix}", tones(2, 2.0, 48_000), 48_000, "stereo")
    data = path.read_bytes()
    path.write_bytes(data[:200] + b"\x55" * (len(data) - 200))
    with pytest.raises(ValueError, match=rf"^audio .*a\.{suffix} (can't be|has a sound)") as caught:
        sound_of(path)
    assert "\n" not in str(caught.value)


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
