"""What moves: head, eyelids, gaze and brows over time, all of it smooth and from one seed.

A longer clip of the same seed begins with the shorter one.
"""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np

Array = np.ndarray
FPS = 25


@dataclass(frozen=True, slots=True)
class Mood:
    """How a face at rest differs from a neutral one."""

    lift: float  # how far the corners of the mouth go up, picture units
    brow_raise: float
    brow_tilt: float  # slope of the brows; positive is sad (inner ends up), negative is angry
    lid: float  # how open the eyes are, times the identity's size


MOODS = {
    "neutral": Mood(0.010, 0.0, 0.0, 1.0),
    "happy": Mood(0.080, 0.02, 0.02, 0.88),
    "sad": Mood(-0.065, 0.015, 0.30, 0.84),
    "angry": Mood(-0.040, -0.035, -0.27, 0.86),
    "surprised": Mood(0.0, 0.085, 0.04, 1.15),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """The head in each frame, all [T]: similarity of the head and parallax of the face in it."""

    x: Array  # shift to the right, picture units (the picture is two units wide)
    y: Array  # shift down, picture units
    tilt: Array  # clockwise rotation about the head's origin, radians
    zoom: Array  # scale of the head, 1 at rest
    turn: Array  # extra shift of eyes, nose and mouth to the right on the head, head units
    nod: Array  # extra shift of the same downwards, head units


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """Eyes and brows of each frame, all [T]."""

    lid: Array  # 1 open, 0 closed
    gaze_x: Array  # [-1, 1], right is positive
    gaze_y: Array  # [-1, 1], down is positive
    brow: Array  # how far the brows are raised, picture units


@dataclass(frozen=True, slots=True, kw_only=True)
class Mouth:
    """The mouth of each frame, all [T] in [0, 1] (see `train.world.lips`)."""

    opening: Array
    width: Array
    roundness: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """What of a voice moves more than the mouth, all [T] (see `train.world.lips`)."""

    stress: Array  # [0, 1]: slow emphasis, lifts brows and lets the head nod
    lean: Array  # about unit deviation while it speaks: louder than just before
    sway: Array  # the same: lips wider than just before


Curves = TypeVar("Curves")


def part(curves: Curves, rows: slice | Array) -> Curves:
    """The rows of every curve of a dataclass."""
    return type(curves)(**{f.name: getattr(curves, f.name)[rows] for f in fields(curves)})


def still_pose(num_frames: int = 1) -> Pose:
    zero = np.zeros(num_frames, np.float32)
    return Pose(x=zero, y=zero, tilt=zero, zoom=zero + 1, turn=zero, nod=zero)


def still_expression(num_frames: int = 1) -> Expression:
    zero = np.zeros(num_frames, np.float32)
    return Expression(lid=zero + 1, gaze_x=zero, gaze_y=zero, brow=zero)


def still_mouth(num_frames: int = 1) -> Mouth:
    zero = np.zeros(num_frames, np.float32)
    return Mouth(opening=zero, width=zero + 0.5, roundness=zero)


def wander(rng: np.random.Generator, t: Array, slow: float, fast: float) -> Array:
    """Band-limited noise of about unit deviation: twelve waves between two frequencies in Hz."""
    frequency = np.exp(rng.uniform(np.log(slow), np.log(fast), 12))
    weight = rng.normal(size=12) * (slow / frequency) ** 0.5
    phase = rng.uniform(0, 2 * np.pi, 12)
    waves = np.sin(2 * np.pi * frequency * t[:, None] + phase)
    return waves @ (weight / np.sqrt((weight**2).sum() / 2))


def seat(seed: int) -> Pose:
    """Where a character holds its head, [1]: nobody sits quite in the middle of the picture."""
    rng = np.random.default_rng([seed, 0x5EA7])
    x, y, tilt = (rng.normal(size=(3, 1)) * [[0.025], [0.02], [0.02]]).astype(np.float32)
    return replace(still_pose(), x=x, y=y, tilt=tilt)


EXTENT = {"x": 0.034, "y": 0.020, "tilt": 0.042, "zoom": 0.012, "turn": 0.030, "nod": 0.016}
"""How far a head moves, as `Pose`, for a deviation of one."""
BANDS = {"x": (0.06, 0.55), "y": (0.06, 0.7), "tilt": (0.06, 0.5), "zoom": (0.05, 0.3),
         "turn": (0.06, 0.6), "nod": (0.1, 0.9)}  # fmt: skip
"""Slowest and fastest of what it does of its own, Hz."""
OWN, VOICED = 0.35, 0.45  # of that, what a head does of its own and what its voice does


def head_motion(
    seed: int, num_frames: int, voice: Voice | None = None, performance: int = 0
) -> Pose:
    """About the character's `seat`. While it speaks, most of what moves the head is the `voice`;
    the rest is its own, and another `performance` of the same moves that in another way."""
    rng = np.random.default_rng([seed, 0x4EAD, performance])
    t = np.arange(num_frames) / FPS
    lively, rest = rng.uniform(0.45, 1.15), seat(seed)

    def own(slow: float, fast: float) -> Array:
        return 2 * np.tanh(wander(rng, t, slow, fast) / 2)

    motion = {name: OWN * own(*band) for name, band in BANDS.items()}
    if voice is not None:
        nod = 3 * voice.stress
        for name, moved in (("x", voice.lean), ("y", nod), ("tilt", voice.sway),
                            ("turn", voice.lean), ("nod", nod)):  # fmt: skip
            motion[name] = motion[name] + VOICED * moved
    pose = {
        name: getattr(rest, name) + lively * EXTENT[name] * curve for name, curve in motion.items()
    }
    return Pose(**{name: value.astype(np.float32) for name, value in pose.items()})


def events(rng: np.random.Generator, seconds: float, shortest: float, mean: float) -> Array:
    """Times of something that happens now and then, from before 0 to beyond the end."""
    start = rng.uniform(0, mean)  # drawn first: how many gaps follow depends on the length
    gaps = shortest + rng.exponential(mean - shortest, 16 + int(2 * seconds / mean))
    return np.cumsum(gaps) - start


def eye_motion(seed: int, num_frames: int, voice: Voice | None = None) -> Expression:
    t = np.arange(num_frames) / FPS
    # One generator for each: a longer clip draws more events, which must not move the others.
    blink, glance, brow = (np.random.default_rng([seed, 0xE7E, i]) for i in range(3))
    since = t[:, None] - events(blink, num_frames / FPS, 0.9, 3.2)
    shut = np.interp(since, [-0.09, -0.01, 0.04, 0.18], [0, 1, 1, 0]).max(1)
    gaze = np.zeros((num_frames, 2))
    times = events(glance, num_frames / FPS, 0.5, 1.7)
    targets = np.random.default_rng([seed, 0xE7E, 3]).normal(size=(len(times), 2)) * [0.55, 0.3]
    targets[::2] *= 0.25  # every other look goes back to the camera
    steps = np.diff(targets, axis=0, prepend=targets[:1] * 0)
    for time, step in zip(times, steps, strict=True):
        gaze += np.interp(t, [time - 0.03, time + 0.05], [0, 1])[:, None] * step
    gaze = np.tanh(gaze)
    raised = 0.012 * np.tanh(wander(brow, t, 0.1, 0.8))
    if voice is not None:
        raised = raised + 0.022 * voice.stress
    values = {"lid": 1 - shut, "gaze_x": gaze[:, 0], "gaze_y": gaze[:, 1], "brow": raised}
    return Expression(**{name: value.astype(np.float32) for name, value in values.items()})
