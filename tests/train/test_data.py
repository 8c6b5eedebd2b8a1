"""The drawn world: what is called true in it is true in its pixels and sound."""

from dataclasses import astuple, replace
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.programs import needs_program
from tests.train.shards import read_shard, write_shards
from train.world import speech
from train.world.clips import SPLITS, clip, identity_seed
from train.world.identity import identity
from train.world.lips import SAMPLES_PER_FRAME, mouth_curve, voice_curves
from train.world.measure import find_pose, read_mouth
from train.world.motion import (
    Mouth,
    Pose,
    eye_motion,
    head_motion,
    seat,
    still_expression,
    still_mouth,
    still_pose,
)
from train.world.registration import estimate_pose
from train.world.render import REGIONS, render

SPEECH = Path(__file__).parents[2] / "examples" / "speech.flac"
RATE = 16_000
NUM_FRAMES = 75


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """Three seconds of the example sentence, float32."""
    with av.open(str(SPEECH)) as container:
        pieces = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    return (np.concatenate(pieces) / 32768).astype(np.float32)[: NUM_FRAMES * SAMPLES_PER_FRAME]


def vowel(f1: float, f2: float, seconds: float = 1.0) -> np.ndarray:
    """A voice at 120 Hz through two resonances (and a fixed third)."""
    t = np.arange(round(seconds * RATE)) / RATE
    result = np.zeros(len(t))
    for harmonic in range(1, 40):
        f = 120 * harmonic
        gain = sum(g / (1 + ((f - c) / w) ** 2) for c, w, g in
                   ((f1, 60, 1), (f2, 80, 0.25), (2900, 120, 0.1)))  # fmt: skip
        result += gain * np.sin(2 * np.pi * f * t + harmonic**2)
    return (0.1 * result / result.std()).astype(np.float32)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_a_seed_reproduces_its_clip(spoken: np.ndarray) -> None:
    """Figures quoted for a seed would mean nothing."""
    first, second = (clip(5, 20, 64, "dev", audio=spoken) for _ in range(2))
    for name in ("frames", "regions", "reference", "audio"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert (first.caption, first.mood) == (second.caption, second.mood)
    assert not np.array_equal(first.frames, clip(6, 20, 64, "dev", audio=spoken).frames)


@needs_program("espeak-ng")
def test_a_seed_reproduces_its_voice() -> None:
    """The sound of a clip comes from another program, which must be told everything."""
    first = speech.sound(3, RATE, "train", "speech")
    speech.spoken.cache_clear()
    second = speech.sound(3, RATE, "train", "speech")
    assert np.array_equal(first[0], second[0])
    assert first[2] == second[2]
    assert np.abs(first[0]).max() > 0.05


def test_a_longer_clip_begins_with_the_shorter_one() -> None:
    """Evaluation over 600 s must continue what was seen at 60 s."""
    for motion in (head_motion, eye_motion):
        short, long = motion(11, 40), motion(11, 400)
        for a, b in zip(astuple(short), astuple(long), strict=True):
            np.testing.assert_allclose(a, b[:40], atol=1e-5)


def test_splits_share_no_face_voice_or_sentence() -> None:
    """A model would be judged on what it has seen."""
    faces = [{identity_seed(s, split) for s in (0, 1, 999_999)} for split in SPLITS]
    voices = [{name.split("+")[1] for name in speech.voices(split)} for split in SPLITS]
    sentences = [set(speech.SENTENCES[split]) for split in SPLITS]
    for sets in (faces, voices, sentences):
        assert all(sets)
        assert len(set.union(*sets)) == sum(map(len, sets))


@pytest.mark.parametrize("seed", [-1, 1_000_000])
def test_a_seed_outside_its_split_is_refused(seed: int) -> None:
    """It would be a face of another split."""
    with pytest.raises(ValueError, match="0 to 999999"):
        identity_seed(seed, "train")


@pytest.mark.parametrize("level", [0.0, 1e-3])
def test_silence_closes_the_mouth(level: float) -> None:
    """Lips would tremble to the noise of a microphone (-60 dB)."""
    samples = level * np.random.default_rng(0).normal(size=2 * RATE).astype(np.float32)
    assert mouth_curve(samples).opening.max() == 0


def test_noise_moves_the_mouth_far_less_than_a_voice() -> None:
    """A loud fan would look like speech."""
    noise = 0.1 * np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    assert mouth_curve(noise).opening.mean() < 0.3 * mouth_curve(vowel(750, 1200)).opening.mean()


def test_vowels_have_their_shapes() -> None:
    """ah opens, ee spreads, oo rounds; otherwise width says nothing about the sound."""
    shapes = {name: mouth_curve(vowel(*f)) for name, f in
              {"ah": (750, 1200), "ee": (290, 2300), "oo": (310, 900)}.items()}  # fmt: skip
    middle = {name: [float(v[12]) for v in astuple(shape)] for name, shape in shapes.items()}
    assert middle["ah"][0] > 0.8 > 0.5 > max(middle["ee"][0], middle["oo"][0]) > 0.2
    assert middle["ee"][1] > 0.8 > 0.3 > middle["oo"][1]
    assert middle["oo"][2] > 0.7 > 0.3 > max(middle["ee"][2], middle["ah"][2])


def test_a_frame_shows_its_own_samples() -> None:
    """Lips would lead or trail the sound."""
    samples = np.zeros(50 * SAMPLES_PER_FRAME, np.float32)
    samples[20 * SAMPLES_PER_FRAME : 30 * SAMPLES_PER_FRAME] = vowel(750, 1200, 0.4)
    opening = mouth_curve(samples).opening
    # 40 ms of smoothing reach one frame before the sound, the release three behind it.
    assert opening[:17].max() == 0
    assert opening[36:].max() == 0
    centre = (opening * np.arange(50)).sum() / opening.sum()
    assert abs(centre - 24.5) < 0.6  # half a frame: the release pulls it a little later


def test_the_mouth_follows_the_voice_without_lag(spoken: np.ndarray) -> None:
    """Training would teach a delay."""
    opening = mouth_curve(spoken).opening
    loud = np.log10(1e-3 + np.sqrt((spoken.reshape(NUM_FRAMES, -1) ** 2).mean(1)))
    lags = range(-3, 4)
    scores = [correlation(opening[5:-5], np.roll(loud, lag)[5:-5]) for lag in lags]
    assert lags[int(np.argmax(scores))] == 0
    assert max(scores) > 0.6
    assert opening.std() > 0.15


@pytest.mark.parametrize("size", [64, 96, 128])
def test_all_sizes_draw_the_same_picture(size: int) -> None:
    """Positions in pixels instead of picture units would shift the face."""
    who = identity(7)
    still = (still_pose(), still_expression(), still_mouth())
    picture = render(who, *still, "happy", size).frames[0].astype(float)
    large = render(who, *still, "happy", 2 * size).frames[0].astype(float)
    small = large.reshape(size, 2, size, 2, 3).mean((1, 3))
    # Edges of the small picture are a little softer than the mean of the large one.
    assert np.abs(picture - small).mean() < 3


def test_motion_below_a_pixel_is_smooth() -> None:
    """Edges without antialiasing jump by their whole contrast when a head creeps."""
    steps, size = 40, 64
    still, expression, mouth = still_pose(steps), still_expression(steps), still_mouth(steps)
    shift = np.linspace(0, 4, steps, endpoint=False, dtype=np.float32) * 2 / size  # 0.1 px each
    moved = Pose(x=shift, y=0.6 * shift, tilt=still.tilt, zoom=still.zoom, turn=0.5 * shift,
                 nod=still.nod)  # fmt: skip
    frames = render(identity(21), moved, expression, mouth, "neutral", size).frames.astype(int)
    # 0.17 px per step at most, over edges 1.4 px wide: an eighth of the range, 31.
    assert np.abs(np.diff(frames, axis=0)).max() <= 34


def test_regions_mark_what_they_name(spoken: np.ndarray) -> None:
    """Losses and region figures would look at the wrong pixels."""
    take = clip(3, 25, 64, "train", audio=spoken)
    share = {name: (take.regions == i).mean() for i, name in enumerate(REGIONS)}
    assert share["background"] > 0.1
    assert all(share[name] > 0.01 for name in ("clothes", "skin", "eyes", "mouth"))
    moving = np.abs(np.diff(take.frames.astype(int), axis=0)).mean((0, 3))
    mouth = (take.regions == REGIONS.index("mouth")).all(0)
    wall = (take.regions == REGIONS.index("background")).all(0)
    assert moving[mouth].mean() > 10 * moving[wall].mean()


def test_the_caption_tells_the_mood(spoken: np.ndarray) -> None:
    """A prompt could not have an effect."""
    sad, happy = (clip(8, 2, 64, audio=spoken, mood=mood) for mood in ("sad", "happy"))
    assert "a sad" in sad.caption
    assert sad.caption.replace("a sad", "a happy") == happy.caption
    assert sad.identity.wall_name in sad.caption
    assert not np.array_equal(sad.frames, happy.frames)


def test_mouth_and_pose_are_read_from_the_pixels(spoken: np.ndarray) -> None:
    """Generated video is scored by these readings: on the truth they must be right."""
    openings, widths = [], []
    for seed in (0, 1):
        take = clip(seed, NUM_FRAMES, 64, "test", audio=spoken, mood="neutral")
        reading = read_mouth(take.frames, take.identity, take.mood)
        openings.append(correlation(reading.mouth.opening, take.mouth.opening))
        widths.append(correlation(reading.mouth.width, take.mouth.width))
        pose = estimate_pose(take.frames, take.identity, take.mood)
        for name in ("x", "y", "tilt"):  # 0.01 is a third of a pixel
            assert np.abs(getattr(pose, name) - getattr(take.pose, name)).max() < 0.01, name
    assert min(openings) > 0.98
    assert min(widths) > 0.95


@pytest.mark.parametrize(("seed", "cut"), [(0, "curly"), (3, "fringe"), (6, "quiff")])
def test_a_mouth_is_found_under_the_wrong_hair(spoken: np.ndarray, seed: int, cut: str) -> None:
    """A model that draws hair or eyes a little differently would be said not to follow the sound:
    they pull the estimated head to where there is no mouth."""
    take = clip(seed, NUM_FRAMES, 64, "test", audio=spoken, mood="neutral")
    who = take.identity
    other = replace(who, cut=cut, hair_volume=1.2, eye_dots=not who.eye_dots)
    frames = render(other, take.pose, take.expression, take.mouth, "neutral", 64).frames

    def follows(pose: Pose) -> float:
        mouth = read_mouth(frames, who, "neutral", pose).mouth
        return correlation(mouth.opening, take.mouth.opening)

    assert follows(estimate_pose(frames, who, "neutral")) < 0.5
    assert follows(find_pose(frames, who, "neutral")) > 0.95


def test_a_character_sits_in_its_clips_as_in_its_portrait() -> None:
    """Who has to guess where the head will be learns to draw a blur."""
    rest = seat(5)
    for performance in (0, 1):
        pose = head_motion(5, 4000, performance=performance)
        for name in ("x", "y", "tilt"):
            assert getattr(pose, name).mean() == pytest.approx(getattr(rest, name)[0], abs=0.01)
    take = clip(5, 1, 64, audio=np.zeros(1), mood="neutral")
    portrait = render(take.identity, rest, still_expression(), still_mouth(), "neutral", 64)
    assert np.array_equal(take.reference, portrait.frames[0])


def test_the_head_follows_the_voice_and_nothing_later_than_a_lip() -> None:
    """Who could not hear it would have to guess where the head goes. Another performance moves
    otherwise, about what the voice does."""
    pulse = np.zeros(250, np.float32)
    pulse[100:130] = 0.6
    mouth = Mouth(opening=pulse, width=0.5 + pulse / 2, roundness=pulse * 0)
    voice = voice_curves(mouth)
    assert voice.lean[:100].max() == 0  # it knows no future
    assert voice.lean[100:150].max() > 0.5
    takes = [head_motion(5, 250, v, p) for v in (voice, None) for p in (0, 1)]
    for name in ("x", "tilt", "turn"):
        spoken, other, silent, _ = (getattr(take, name) for take in takes)
        curve = voice.sway if name == "tilt" else voice.lean
        assert correlation(spoken - silent, curve) > 0.999
        assert np.abs(spoken - other).max() > 0.01


def test_a_clip_from_mid_stream_goes_on_from_what_was_heard(spoken: np.ndarray) -> None:
    """Learned clips would begin with a head that has heard nothing; live ones do not."""
    whole = clip(5, 60, 64, audio=spoken)
    rest = clip(5, 40, 64, audio=spoken, before=20)
    assert np.array_equal(rest.frames, whole.frames[20:])
    assert np.array_equal(rest.audio, whole.audio[20 * SAMPLES_PER_FRAME :])
    assert np.array_equal(rest.pose.tilt, whole.pose.tilt[20:])


@needs_program("espeak-ng")
def test_shards_hold_the_clips_and_are_not_written_twice(tmp_path: Path) -> None:
    """A stopped run could not go on."""
    (path,) = write_shards(tmp_path, "dev", 2, 5, 64, 0)
    written = path.stat().st_mtime_ns
    tensors, about = read_shard(path)
    take = clip(1, 5, 64, "dev")
    assert np.array_equal(tensors["frames"][1], take.frames)
    assert np.array_equal(tensors["mouth"][1], np.stack(astuple(take.mouth), 1))
    assert about[1]["caption"] == take.caption
    assert list(write_shards(tmp_path, "dev", 2, 5, 64, 0)) == [path]
    assert path.stat().st_mtime_ns == written
