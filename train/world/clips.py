"""Clips of the drawn world: a talking head, its sound, and everything that is true about it.

A clip is made from its seed and split alone. Faces of the splits come from separate ranges of
identity seeds, voices and sentences from separate lists (`train.world.speech`). Drawing is faster
than learning from it, so training calls `clip` directly.

T video frames   S the picture's side in pixels
"""

from dataclasses import dataclass

import numpy as np

from train.preset import SIZE
from train.world import motion
from train.world.captions import caption
from train.world.identity import Identity, identity
from train.world.lips import SAMPLES_PER_FRAME, mouth_curve, voice_curves
from train.world.motion import Expression, Mouth, Pose
from train.world.render import render
from train.world.speech import sound

SPLITS = ("train", "dev", "test")
SEEDS_PER_SPLIT = 1_000_000
MOOD_WEIGHTS = {"neutral": 0.3, "happy": 0.3, "sad": 0.14, "angry": 0.12, "surprised": 0.14}
NEUTRAL_REFERENCE = 0.6
"""Share of clips whose reference picture is neutral, so that only the caption tells the mood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One take of one character."""

    seed: int
    split: str
    identity: Identity
    mood: str
    kind: str
    """What sounds, see `train.world.speech.KINDS`; "given" for the caller's own audio."""
    voice: str
    caption: str
    frames: np.ndarray
    """uint8 [T, S, S, 3]."""
    regions: np.ndarray
    """uint8 [T, S, S], indices into `train.world.render.REGIONS`."""
    reference: np.ndarray
    """uint8 [S, S, 3]: the character with closed mouth and open eyes, seated as in its clips."""
    audio: np.ndarray
    """float32 [640 T], 16 kHz; frame k belongs to samples [640 k, 640 (k + 1))."""
    mouth: Mouth
    pose: Pose
    expression: Expression


def identity_seed(seed: int, split: str) -> int:
    """The character of a clip; never the same for two splits."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, expected one of {SPLITS}")
    if not 0 <= seed < SEEDS_PER_SPLIT:
        raise ValueError(f"clip seed is {seed}, expected 0 to {SEEDS_PER_SPLIT - 1}")
    return SPLITS.index(split) * SEEDS_PER_SPLIT + seed


def clip(
    seed: int,
    num_frames: int,
    size: int = SIZE,
    split: str = "train",
    *,
    audio: np.ndarray | None = None,
    before: int = 0,
    kind: str | None = None,
    mood: str | None = None,
) -> Clip:
    """Make one clip.

    Args:
        seed: 0 to 999,999; with the split it decides face, motion, mood and sound.
        num_frames: T, at 25 frames per second.
        size: S, pixels.
        split: one of `SPLITS`.
        audio: float [n] at 16 kHz to speak instead of a drawn sound; padded or cut.
        before: frames that sound before the clip's first one; its motion goes on from there.
        kind: one of `train.world.speech.KINDS` instead of a drawn one.
        mood: one of `train.world.motion.MOODS` instead of a drawn one.

    Raises:
        ValueError: an unknown split, kind or mood, or a seed out of range.
        RuntimeError: speech is wanted and espeak-ng is not installed.
    """
    key = identity_seed(seed, split)
    who, rng = identity(key), np.random.default_rng([key, 0xC11B])
    drawn_mood = str(rng.choice(list(MOOD_WEIGHTS), p=list(MOOD_WEIGHTS.values())))
    mood = drawn_mood if mood is None else mood
    if mood not in motion.MOODS:
        raise ValueError(f"mood is {mood!r}, expected one of {tuple(motion.MOODS)}")
    length, voice = before + num_frames, ""
    if audio is None:
        audio, kind, voice = sound(key, length * SAMPLES_PER_FRAME, split, kind)
    else:
        audio, kind = fitted(audio, length * SAMPLES_PER_FRAME), "given"
    mouth = mouth_curve(audio, length)
    moved = voice_curves(mouth)
    curves = (mouth, motion.head_motion(key, length, moved), motion.eye_motion(key, length, moved))
    mouth, pose, expression = (motion.part(c, slice(before, None)) for c in curves)
    take = render(who, pose, expression, mouth, mood, size)
    return Clip(
        seed=seed,
        split=split,
        identity=who,
        mood=mood,
        kind=kind,
        voice=voice,
        caption=caption(who, mood, key),
        frames=take.frames,
        regions=take.regions,
        reference=portrait(who, "neutral" if rng.random() < NEUTRAL_REFERENCE else mood, size),
        audio=audio[before * SAMPLES_PER_FRAME :],
        mouth=mouth,
        pose=pose,
        expression=expression,
    )


def fitted(audio: np.ndarray, num_samples: int) -> np.ndarray:
    """float32 [num_samples]: cut, or padded with silence."""
    audio = np.asarray(audio, np.float32)[:num_samples]
    return np.pad(audio, (0, num_samples - len(audio)))


def portrait(who: Identity, mood: str, size: int) -> np.ndarray:
    """uint8 [S, S, 3]: silent, looking at the camera, seated as in its clips."""
    return render(
        who, motion.seat(who.seed), motion.still_expression(), motion.still_mouth(), mood, size
    ).frames[0]
