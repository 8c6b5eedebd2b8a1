"""What a model is asked for, and everything that is true about it: takes of unseen characters.

A take is a clip that is not drawn yet: its length does not cost memory, and its frames are drawn
where they are wanted.

T video frames   S the picture's side in pixels
"""

from dataclasses import dataclass

import numpy as np

from train.preset import SIZE
from train.world.clips import clip, fitted, identity_seed, portrait
from train.world.identity import Identity
from train.world.lips import SAMPLES_PER_FRAME, mouth_curve, voice_curves
from train.world.motion import FPS, Expression, Mouth, Pose, eye_motion, head_motion, part
from train.world.render import render
from train.world.speech import sound

OTHER_TAKE = 10_000_000
"""Between the seeds of the motions that the same character could as well have made."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Take:
    """One character with one sound; a clip without its frames (see `train.world.clips.Clip`)."""

    face: int
    """Seed in the split."""
    split: str
    size: int
    identity: Identity
    mood: str
    caption: str
    reference: np.ndarray
    """uint8 [S, S, 3]."""
    audio: np.ndarray
    """float32 [640 T], 16 kHz."""
    mouth: Mouth
    told: bool = False
    """The portrait is neutral: only the caption tells the mood."""

    @property
    def num_frames(self) -> int:
        return len(self.mouth.opening)

    def motion(self, seed: int) -> tuple[Pose, Expression]:
        """How head and eyes move; another seed is another performance of the same sound."""
        who, length = identity_seed(self.face, self.split), self.num_frames
        voice = voice_curves(self.mouth)
        head = head_motion(who, length, voice, performance=seed)
        return head, eye_motion(who + seed * OTHER_TAKE, length, voice)

    def draw(self, rows: slice, motion: tuple[Pose, Expression]) -> np.ndarray:
        """The true frames uint8 [rows, S, S, 3] with a motion as `motion` gives."""
        pose, expression = (part(of, rows) for of in motion)
        mouth = part(self.mouth, rows)
        return render(self.identity, pose, expression, mouth, self.mood, self.size).frames


def take(
    face: int,
    num_frames: int,
    *,
    size: int = SIZE,
    split: str = "test",
    audio: np.ndarray | None = None,
    kind: str = "speech",
    mood: str | None = None,
    told: bool = False,
) -> Take:
    """The take of a face's seed in its split.

    Args:
        face: 0 to 999,999.
        num_frames: T, at 25 per second.
        size: S.
        split: one of `train.world.clips.SPLITS`.
        audio: float [n] at 16 kHz to speak instead of a drawn sound; padded or cut to 640 T.
        kind: the drawn sound, one of `train.world.speech.KINDS`.
        mood: one of `train.world.motion.MOODS` instead of the face's own.
        told: only the caption tells the mood: the portrait is neutral.

    Raises:
        ValueError: an unknown split, kind or mood, or a seed out of range.
        RuntimeError: speech is wanted and espeak-ng is not installed.
    """
    still = clip(face, 1, size, split, audio=np.zeros(1), mood=mood)
    length = num_frames * SAMPLES_PER_FRAME
    if audio is None:
        audio, _, _ = sound(identity_seed(face, split), length, split, kind)
    audio = fitted(audio, length)
    return Take(
        face=face,
        split=split,
        size=size,
        identity=still.identity,
        mood=still.mood,
        caption=still.caption,
        reference=portrait(still.identity, "neutral", size) if told else still.reference,
        audio=audio,
        mouth=mouth_curve(audio, num_frames),
        told=told,
    )


def frames_of(seconds: float) -> int:
    """Video frames of a duration."""
    return round(seconds * FPS)
