"""The benchmark of live conversations measures what it says, on talks whose truth is known."""

import itertools

import numpy as np
import pytest

from benchmarks.bench_live import WINDOW_S, av_offsets_ms, openings, reactions
from benchmarks.live_talks import LONGEST_S, Burst, script
from examples.make_examples import FACES
from live_avatar_client import read_audio
from train.world.clips import clip
from train.world.lips import mouth_curve


def speech() -> np.ndarray:
    return np.rint(np.concatenate(list(read_audio("examples/speech.flac"))) * 32767).astype(
        np.int16
    )


def test_a_talk_has_its_bursts_one_after_the_other_into_a_silent_face() -> None:
    """A burst into a face that speaks has no onset."""
    talk = script(speech(), 120.0, 30, 10, seed=0)
    assert len(talk) == 30
    assert sum(burst.stop_s is not None for burst in talk) == 10
    for before, after in itertools.pairwise(talk):
        assert after.at_s - before.at_s - len(before.samples) / 16_000 > 0.9
    phases = np.array([burst.at_s % 0.48 for burst in talk])
    assert np.histogram(phases, 4, (0, 0.48))[0].min() >= 2, "the moments are not random"
    for burst in talk:
        assert (mouth_curve(burst.samples / np.float32(32768)).opening[1:3] > 0).all()
    with pytest.raises(ValueError, match="30 bursts need 111 s"):
        script(speech(), 60.0, 30, 10, seed=0)
    assert LONGEST_S < 4.0


def test_reactions_are_read_from_the_viewers_clock() -> None:
    """Milliseconds between what was done and what was seen."""
    time_s = 50 + np.arange(200) / 25
    opening = np.zeros(200)
    opening[60:80] = 0.5
    burst = Burst(at_s=0, samples=np.ones(1, np.int16), stop_s=1.0, fed_s=52.2, stopped_s=53.0)
    never = Burst(at_s=0, samples=np.ones(1, np.int16), stop_s=None, fed_s=54.0)
    found = reactions([burst, never], time_s, opening)
    assert found["onset_ms"] == pytest.approx([200, 1e3 * WINDOW_S])
    assert found["closed_ms"] == pytest.approx([200])


@pytest.mark.parametrize("late", [-2, 0, 3])
def test_a_picture_that_trails_its_sound_is_found(late: int) -> None:
    """Lip sync is the one figure that everybody sees."""
    sound = speech()[: 640 * 200]
    opening = np.roll(mouth_curve(sound / np.float32(32768)).opening, late)
    assert av_offsets_ms(sound, opening)["av_offset_ms"] == 40 * late
    assert av_offsets_ms(sound, opening)["av_drift_ms"] == 0


@pytest.mark.long
def test_mouths_are_read_from_pixels_of_the_example_portrait() -> None:
    """Another character's drawings would read mouths that are not there."""
    audio = speech()[: 640 * 150] / np.float32(32768)
    drawn = clip(FACES["portrait"], 150, 96, "test", audio=audio)
    read = openings(list(drawn.frames))
    assert np.corrcoef(read, drawn.mouth.opening)[0, 1] > 0.9
