"""Clips of the drawn world: a talking head, its sound, and everything that is true about it.

A clip is made from its seed and split alone. Faces of the splits come from separate ranges of
identity seeds, voices and sentences from separate lists (`train.world.speech`). A take is a clip
that is not drawn yet: its length does not cost memory, and it has any number of performances.

T video frames   S the picture's side in pixels
"""

from dataclasses import dataclass, fields

import numpy as np

from train.preset import SIZE
from train.world import motion
from train.world.identity import Identity, caption, identity
from train.world.lips import SAMPLES_PER_FRAME, mouth_curve, voice_curves
from train.world.motion import Expression, Mouth, Pose, part
from train.world.render import render
from train.world.speech import sound

SPLITS = ("train", "dev", "test")
SEEDS_PER_SPLIT = 1_000_000
OTHER_TAKE = 10_000_000  # between the seeds of motions that one character could make
MOOD_WEIGHTS = {"neutral": 0.3, "happy": 0.3, "sad": 0.14, "angry": 0.12, "surprised": 0.14}
NEUTRAL_REFERENCE = 0.6  # of clips whose portrait is neutral: only the caption tells the mood


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Take:
    """One character with one sound."""

    seed: int  # of the split
    split: str
    size: int
    identity: Identity
    mood: str
    kind: str  # what sounds, see `train.world.speech.KINDS`; "given" for the caller's own audio
    voice: str
    caption: str
    reference: np.ndarray  # uint8 [S, S, 3]: mouth closed, eyes open, seated as in its clips
    audio: np.ndarray  # float32 [640 T], 16 kHz; frame k belongs to samples [640 k, 640 (k + 1))
    mouth: Mouth
    told: bool  # the portrait is neutral whatever the mood: only the caption tells it

    @property
    def num_frames(self) -> int:
        return len(self.mouth.opening)

    def motion(self, performance: int = 0) -> tuple[Pose, Expression]:
        """How head and eyes move; another performance is as good for the same sound."""
        who, length = identity_seed(self.seed, self.split), self.num_frames
        voice = voice_curves(self.mouth)
        head = motion.head_motion(who, length, voice, performance)
        return head, motion.eye_motion(who + performance * OTHER_TAKE, length, voice)

    def draw(self, rows: slice, moved: tuple[Pose, Expression]) -> np.ndarray:
        """The true frames uint8 [rows, S, S, 3] with a motion as `motion` gives."""
        pose, expression, mouth = (part(of, rows) for of in (*moved, self.mouth))
        return render(self.identity, pose, expression, mouth, self.mood, self.size).frames


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip(Take):
    """A take with the frames of its first performance."""

    frames: np.ndarray  # uint8 [T, S, S, 3]
    regions: np.ndarray  # uint8 [T, S, S], indices into `train.world.render.REGIONS`
    pose: Pose
    expression: Expression


def identity_seed(seed: int, split: str) -> int:
    """The character of a clip; never the same for two splits."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, expected one of {SPLITS}")
    if not 0 <= seed < SEEDS_PER_SPLIT:
        raise ValueError(f"clip seed is {seed}, expected 0 to {SEEDS_PER_SPLIT - 1}")
    return SPLITS.index(split) * SEEDS_PER_SPLIT + seed


def take(
    seed: int,
    num_frames: int,
    size: int = SIZE,
    split: str = "test",
    *,
    audio: np.ndarray | None = None,
    kind: str | None = "speech",
    mood: str | None = None,
    told: bool = False,
) -> Take:
    """What a model is asked for: T `num_frames`, 25 per second, with the face, motion, mood and
    sound of a seed, 0 to 999,999, and a split.

    `audio`: float [n] at 16 kHz to speak instead of a drawn sound; padded or cut to 640 T. `kind`:
    that of the drawn sound; None draws it, too. `mood`: instead of the drawn one. `told`: only the
    caption tells it. ValueError for an unknown split, kind or mood, or a seed out of range;
    RuntimeError if speech is wanted and espeak-ng is not installed.
    """
    key = identity_seed(seed, split)
    who, rng = identity(key), np.random.default_rng([key, 0xC11B])
    drawn_mood = str(rng.choice(list(MOOD_WEIGHTS), p=list(MOOD_WEIGHTS.values())))
    mood = drawn_mood if mood is None else mood
    if mood not in motion.MOODS:
        raise ValueError(f"mood is {mood!r}, expected one of {tuple(motion.MOODS)}")
    length, voice = num_frames * SAMPLES_PER_FRAME, ""
    if audio is None:
        audio, kind, voice = sound(key, length, split, kind)
    else:
        audio, kind = np.asarray(audio, np.float32)[:length], "given"
        audio = np.pad(audio, (0, length - len(audio)))
    shown = "neutral" if rng.random() < NEUTRAL_REFERENCE or told else mood
    still = (motion.seat(key), motion.still_expression(), motion.still_mouth())
    return Take(
        seed=seed,
        split=split,
        size=size,
        identity=who,
        mood=mood,
        kind=kind,
        voice=voice,
        caption=caption(who, mood, key),
        reference=render(who, *still, shown, size).frames[0],
        audio=audio,
        mouth=mouth_curve(audio, num_frames),
        told=told,
    )


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
    """A take, drawn; `before`: frames that sound before the clip's first one, its motion goes on
    from there."""
    whole = take(seed, before + num_frames, size, split, audio=audio, kind=kind, mood=mood)
    rows = slice(before, None)
    pose, expression, mouth = (part(of, rows) for of in (*whole.motion(), whole.mouth))
    drawn = render(whole.identity, pose, expression, mouth, whole.mood, size)
    known = {f.name: getattr(whole, f.name) for f in fields(whole)}
    known |= {"audio": whole.audio[before * SAMPLES_PER_FRAME :], "mouth": mouth}
    made = {"frames": drawn.frames, "regions": drawn.regions, "pose": pose}
    return Clip(**known, **made, expression=expression)
