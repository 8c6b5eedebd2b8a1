"""Raw samples of any rate become mono 16 kHz."""

import numpy as np
import pytest

from live_avatar_client.sound.raw import RawSound


def tone(rate: int, seconds: float = 0.5) -> np.ndarray:
    time_s = np.arange(round(rate * seconds)) / rate
    return (8000 * np.sin(2 * np.pi * 440 * time_s)).astype("<i2")


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_pieces_of_any_size_give_what_the_whole_gives(rate: int) -> None:
    """A resampler that begins anew with every piece clicks at each seam."""
    sound, pieces = tone(rate), RawSound()
    parts = [pieces.add(sound[i : i + 777].tobytes(), rate) for i in range(0, len(sound), 777)]
    parts.append(pieces.finish())
    whole = RawSound()
    assert np.array_equal(
        np.concatenate(parts), np.concatenate([whole.add(sound.tobytes(), rate), whole.finish()])
    )
    wanted = tone(16_000)
    assert len(np.concatenate(parts)) == len(wanted)
    middle = slice(200, -200)  # the filter rings at the ends
    assert np.abs(np.concatenate(parts).astype(int) - wanted)[middle].max() <= 3


def test_two_channels_become_one() -> None:
    """Half of the sound would be lost, or played at half the speed."""
    stereo = np.stack([tone(16_000), np.zeros(8000, np.int16)], axis=1)
    sound = RawSound()
    mono = np.concatenate([sound.add(stereo.tobytes(), 16_000, 2), sound.finish()])
    assert len(mono) == 8000
    assert np.abs(mono - tone(16_000) / 2).max() <= 1


def test_another_rate_begins_a_new_stream_and_loses_nothing() -> None:
    """A synthesiser may change its voice in mid-sentence."""
    sound = RawSound()
    parts = [
        sound.add(tone(24_000).tobytes(), 24_000),
        sound.add(tone(48_000).tobytes(), 48_000),
        sound.finish(),
    ]
    assert sum(map(len, parts)) == 16_000


def test_a_cleared_stream_leaves_nothing_behind() -> None:
    """The end of an interrupted sentence would open the next one."""
    sound = RawSound()
    sound.add(tone(24_000).tobytes(), 24_000)
    sound.clear()
    assert not sound.add(bytes(48_000), 24_000).any()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((b"123", 16_000), "3 bytes, expected a multiple of 2"),
        ((b"12" * 3, 16_000, 2), "6 bytes, expected a multiple of 4"),
        ((b"12", 16_000, 6), "6 channels at 16000 Hz"),
        ((b"12", 0), "1 channels at 0 Hz"),
    ],
)
def test_what_is_no_sound_is_named(given: tuple, words: str) -> None:
    """FFmpeg's own words for it are numbers."""
    with pytest.raises(ValueError, match=words):
        RawSound().add(*given)
