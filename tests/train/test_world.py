"""What the drawn world is made of: features that show, sounds that occur."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from train.world import identity as characters
from train.world.identity import Identity, identity
from train.world.lips import mouth_curve
from train.world.motion import (
    FPS,
    Expression,
    Mouth,
    eye_motion,
    still_expression,
    still_mouth,
    still_pose,
)
from train.world.render import REGIONS, render
from train.world.speech import KIND_WEIGHTS, KINDS, RATE, sound

SIZE = 96
PLAIN = replace(
    identity(3), glasses="none", beard="none", freckles=False, earrings=False, lashes=False,
    eye_dots=False, outline=0.0, cut="short", background="plain", cloth_pattern="plain",
    garment="T-shirt",
)  # fmt: skip


def drawn(who: Identity, expression: Expression | None = None, mouth: Mouth | None = None):
    """One frame [S, S, 3], and the regions in it."""
    seen = render(who, still_pose(), expression or still_expression(), mouth or still_mouth(),
                  "neutral", SIZE)  # fmt: skip
    return seen.frames[0].astype(int), seen.regions[0]


NAMES = {part: characters.WEIGHTS[part] for part in
         ("glasses", "beard", "cut", "background", "cloth_pattern")}  # fmt: skip
CHANGES = [
    *({part: name} for part, names in {**NAMES, "garment": characters.TABLES["garment"]}.items()
      for name in names if name != getattr(PLAIN, part)),
    {"freckles": True}, {"earrings": True}, {"lashes": True}, {"eye_dots": True},
    {"outline": 0.025}, {"iris": (0.1, 0.6, 0.2)}, {"hair": (0.9, 0.5, 0.7)},
    {"skin": (0.95, 0.8, 0.7)}, {"cloth": (0.1, 0.3, 0.9)}, {"wall": (0.2, 0.2, 0.6)},
    {"face_width": 0.53}, {"jaw": 0.33}, {"mouth_width": 0.3},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: "-".join(map(str, *c.items())))
def test_every_feature_of_a_character_shows(change: dict[str, object]) -> None:
    """Captions would name what no picture has, and faces differ less than they should."""
    plain, other = drawn(PLAIN)[0], drawn(replace(PLAIN, **change))[0]
    assert (np.abs(other - plain).max(-1) > 12).sum() >= 4


def test_an_open_mouth_has_dark_teeth_and_tongue() -> None:
    """A red hole tells an opening, not a shape."""
    opening, width, roundness = np.float32([[1.0], [0.5], [0.0]])
    mouth = Mouth(opening=opening, width=width, roundness=roundness)
    frame, regions = drawn(PLAIN, mouth=mouth)
    inside = frame[regions == REGIONS.index("mouth")]
    red, green, blue = inside.T
    assert (inside.min(-1) > 200).sum() >= 5, "teeth"
    assert ((red > 170) & (green < 130) & (blue < 150)).sum() >= 5, "tongue"
    assert (inside.max(-1) < 130).sum() >= 5, "the dark behind them"


@pytest.mark.parametrize("name", ["lid", "gaze_x", "gaze_y", "brow"])
def test_eyes_and_brows_move_and_it_shows(name: str) -> None:
    """Faces would stare."""
    curve = getattr(eye_motion(5, 60 * FPS), name)
    low, high = (int(curve.argmin()), int(curve.argmax()))
    assert curve[high] - curve[low] > 0.02
    still = still_expression()
    one, other = (
        drawn(PLAIN, replace(still, **{name: curve[i : i + 1].astype(np.float32)}))[0]
        for i in (low, high)
    )
    assert (np.abs(other - one).max(-1) > 12).sum() >= 4


def test_a_minute_has_some_blinks() -> None:
    """Eyes that never close, or never open."""
    closed = eye_motion(5, 60 * FPS).lid < 0.3
    blinks = int((closed[1:] & ~closed[:-1]).sum())
    assert 4 <= blinks <= 60
    assert closed.mean() < 0.2


def test_clips_hear_speech_noise_music_and_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model would move its lips to whatever it never met: a fan, a song, a pause."""
    voiced = np.zeros(RATE, np.float32)
    monkeypatch.setattr("train.world.speech.speech", lambda *_: (voiced, "a voice"))
    kinds = Counter(sound(seed, RATE, "train")[1] for seed in range(600))
    for kind, share in zip(KINDS, KIND_WEIGHTS, strict=True):
        assert kinds[kind] / 600 == pytest.approx(share, abs=0.035), kind
        assert kinds[kind] > 0, kind
    assert sum(KIND_WEIGHTS) == pytest.approx(1)
    level = {kind: float(np.abs(sound(1, RATE, "train", kind)[0]).mean()) for kind in KINDS}
    assert min(level["noise"], level["music"]) > 0.01 > level["silence"]
    assert min(level["speech in noise"], level["speech over music"]) > level["speech"]


@pytest.mark.parametrize(("kind", "most"), [("silence", 0.0), ("noise", 0.2), ("music", 0.2)])
def test_without_a_voice_lips_move_less(kind: str, most: float) -> None:
    """A song or a fan would be spoken: with speech the mean is 0.3."""
    opening = [mouth_curve(sound(seed, 4 * RATE, "test", kind)[0]).opening for seed in range(8)]
    assert np.mean(opening) <= most
