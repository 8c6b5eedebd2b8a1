"""Channels are averaged, and where that would leave nothing the louder one is taken, unheard."""

from pathlib import Path

import numpy as np
import pytest

from live_avatar_client import read_audio
from live_avatar_client.sound.mono import MonoMix
from tests.support.sounds import tones, write_wav

RATE = 16_000


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """float32 [samples]: noise below 2 kHz whose level moves like syllables, peaks near 0.5."""
    draw = np.random.default_rng(seed)
    spectrum = np.fft.rfft(draw.standard_normal(round(seconds * RATE)))
    spectrum[round(2000 * seconds) :] = 0
    sound = np.fft.irfft(spectrum, round(seconds * RATE))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(len(sound)) / RATE)
    return (0.5 * sound * syllables / np.abs(sound).max()).astype(np.float32)


def mixed(channels: np.ndarray, piece: int = 1000) -> np.ndarray:
    mix = MonoMix(len(channels))
    parts = [mix.add(channels[:, i : i + piece]) for i in range(0, channels.shape[1], piece)]
    return np.concatenate([*parts, mix.finish()])


def level(sound: np.ndarray) -> float:
    return float(np.sqrt(np.square(sound, dtype=np.float64).mean()))


@pytest.mark.parametrize("gain", [1.0, 0.98, 0.8])
def test_opposite_channels_are_heard(tmp_path: Path, gain: float) -> None:
    """A cable wired the wrong way round left the mouth shut, without a word."""
    sound = voice(2.0)
    path = write_wav(tmp_path / "a.wav", np.stack([gain * sound, -sound]), RATE)
    got = np.concatenate(list(read_audio(path)))
    assert len(got) == len(sound)
    np.testing.assert_allclose(np.abs(got), np.abs(sound), atol=2 / 32768)


def test_more_channels_that_cancel_are_heard(tmp_path: Path) -> None:
    """Four microphones in two opposite pairs."""
    one, two = voice(2.0, 1), voice(2.0, 2)
    path = write_wav(tmp_path / "a.wav", np.stack([one, -one, 0.5 * two, -0.5 * two]), RATE)
    assert level(np.concatenate(list(read_audio(path)))) == pytest.approx(level(one), rel=0.1)


@pytest.mark.parametrize("first_s", [1.0, 1.234])
def test_a_part_that_cancels_is_heard_and_the_rest_is_averaged(first_s: float) -> None:
    """A reporter's microphone, joined to a studio's."""
    sound = voice(4.0)
    other = sound.copy()
    begin, end = round(first_s * RATE), round((first_s + 1.5) * RATE)
    other[begin:end] *= -1
    got = mixed(np.stack([sound, other]))
    settle = RATE // 4  # until the average's energy is forgotten
    last = end - 320  # the hop in which the fade back begins
    np.testing.assert_array_equal(got[:begin], sound[:begin])
    np.testing.assert_allclose(
        np.abs(got[begin + settle : last]), np.abs(sound[begin + settle : last])
    )
    np.testing.assert_allclose(got[end + settle :], sound[end + settle :], atol=1e-6)


def test_a_change_of_the_choice_makes_no_click() -> None:
    """A step in the sound is a consonant that nobody said."""
    sound = tones(1, 3.0, RATE)[0]
    other = sound.copy()
    other[RATE : 2 * RATE] *= -1
    got = mixed(np.stack([0.9 * sound, other]))
    seams = np.abs(np.diff(other)).argsort()[-2:]  # the sign change itself is in the file
    steps = np.abs(np.diff(got))
    steps[[place + i for place in seams for i in (-1, 0, 1)]] = 0
    # A straight fade of 320 samples adds at most twice the level over 320 to the tone's own steps.
    assert steps.max() <= np.abs(np.diff(sound)).max() + 2 * 0.5 / 320


@pytest.mark.parametrize("num_channels", [2, 3, 8])
def test_unrelated_and_silent_channels_are_averaged(num_channels: int) -> None:
    """Two speakers at a table must both stay; a choice there would mute one."""
    channels = np.stack([voice(2.0, seed) for seed in range(num_channels)])
    np.testing.assert_allclose(mixed(channels), channels.mean(axis=0), atol=1e-6)
    channels[1:] = 0
    np.testing.assert_allclose(mixed(channels), channels[0] / num_channels, atol=1e-6)


def test_pieces_of_any_size_give_the_same_mix() -> None:
    """What is sent must not depend on how a file happens to be cut into packets."""
    sound, other = voice(2.0, 1), voice(2.0, 2)
    channels = np.stack([sound, np.where(np.arange(len(sound)) < RATE, -sound, other)])
    whole = mixed(channels, 10**9)
    for piece in (1, 7, 320, 1152, 5000):
        np.testing.assert_array_equal(
            mixed(channels[:, : RATE + 3000], piece), whole[: RATE + 3000]
        )


def test_the_choice_stays_while_both_channels_are_as_loud() -> None:
    """Opposite channels that change places in loudness would flip the sign all the time."""
    sound = voice(3.0)
    wobble = 1 + 0.02 * np.sin(2 * np.pi * 3 * np.arange(len(sound)) / RATE).astype(np.float32)
    got = mixed(np.stack([sound * wobble, -sound]))
    loud = np.abs(sound) > 0.01
    assert len(set(np.sign(got[loud] * sound[loud]))) == 1
