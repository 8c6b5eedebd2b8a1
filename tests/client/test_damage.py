"""Joined, damaged and cut files are read as far as they go, and what is missing is said once."""

import logging
from fractions import Fraction
from pathlib import Path

import av
import pytest

from live_avatar_client.sound import decoder
from live_avatar_client.sound.audio import audio_seconds
from live_avatar_client.sound.decoder import decode_sound
from tests.client.test_sound import sound_of, video_with
from tests.support.sounds import join, tones, write_coded

pytestmark = pytest.mark.long

LAYOUTS = {1: "mono", 2: "stereo"}


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


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


@pytest.mark.parametrize("num_bytes", [12, 30, 60])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_part_that_cannot_be_opened_does_not_cost_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, num_bytes: int
) -> None:
    """A download that broke off behind a seam was refused before the first second of it."""
    whole = write_coded(tmp_path / f"whole.{suffix}", tones(2, 1.0, 16_000), 16_000, "stereo")
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(whole.read_bytes() + whole.read_bytes()[:num_bytes])
    audio_seconds(joined)
    heard = sound_of(joined)
    assert len(heard) == pytest.approx(16_000, abs=800)
    assert all("part 2 of 2" in words or "missing" in words for words in warnings_of(caplog))


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

    packets = decoder._packets
    monkeypatch.setattr(decoder, "_packets", lambda c, s, losses: packets(Failing(c), s, losses))
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


@pytest.mark.parametrize("suffix", ["mp3", "m4a"])
def test_whole_files_give_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    """The tag of the second of two joined MP3s is not a damaged packet."""
    whole = write_coded(tmp_path / f"whole.{suffix}", tones(1, 1.0, 44_100), 44_100, "mono")
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(whole.read_bytes() * (2 if suffix == "mp3" else 1))
    sound_of(joined)
    assert not warnings_of(caplog)
