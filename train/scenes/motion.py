"""What moves in a scene, at 16 frames a second: the person, and where what passes is.

A longer scene begins with the shorter one. Distances are picture units: the picture is two wide.
"""

from dataclasses import dataclass

import numpy as np

from train.preset import SCENES
from train.scenes.scene import Scene
from train.world.motion import Expression, Mouth, Pose, events, seat, wander

FPS = SCENES.stream.fps
Array = np.ndarray
OWN = {
    "x": (0.030, 0.06, 0.5),
    "y": (0.018, 0.06, 0.6),
    "tilt": (0.040, 0.06, 0.45),
    "zoom": (0.014, 0.05, 0.3),
    "turn": (0.030, 0.06, 0.5),
    "nod": (0.015, 0.1, 0.7),
}
"""Of every head: extent, and slowest and fastest in Hz."""
HIDDEN = 1.25  # what passes goes from -HIDDEN to HIDDEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """All curves of a scene."""

    pose: Pose
    expression: Expression
    mouth: Mouth
    passing: Array  # [T, 2]: x and y of what passes; beyond the picture most of the time
    beat: Array  # [T] in [0, 1): place in its own motion, such as a beat of wings


def moves(made: Scene, num_frames: int) -> Moves:
    """The motion of the first `num_frames` frames."""
    t = np.arange(num_frames) / FPS
    pose, gaze, mouth = _head(made, t)
    passing, beat = _passing(made, t)
    return Moves(pose=pose, expression=_eyes(made, t, gaze), mouth=mouth, passing=passing,
                 beat=beat)  # fmt: skip


def _head(made: Scene, t: Array) -> tuple[Pose, Array, Mouth]:
    """Its pose, where it looks because of what it does [T], and its mouth."""
    rng, rest = np.random.default_rng([made.key, 0x4EAD]), seat(made.key)
    own = {
        name: extent * 2 * np.tanh(wander(rng, t, slow, fast) / 2)
        for name, (extent, slow, fast) in OWN.items()
    }
    gaze, opening, roundness = np.zeros_like(t), np.zeros_like(t), np.zeros_like(t)
    action, rate, phase = made.words["action"], rng.uniform(0.85, 1.15), rng.uniform(0, 2 * np.pi)
    if action == "looking around":
        turned = _targets(rng, t, 1.5)
        own["turn"] += 0.14 * turned
        own["x"] += 0.07 * turned
        gaze = turned
    elif action == "nodding":
        wave = np.sin(2 * np.pi * 0.7 * rate * t + phase)
        own["nod"] += 0.06 * wave
        own["y"] += 0.03 * wave
    elif action == "swaying":
        wave = np.sin(2 * np.pi * 0.33 * rate * t + phase)
        own["x"] += 0.13 * wave
        own["tilt"] += 0.12 * wave
    elif action == "singing":
        wave = np.sin(2 * np.pi * 0.6 * rate * t + phase + 0.6 * wander(rng, t, 0.1, 0.4))
        opening = np.clip(0.5 + 0.62 * wave, 0, 1)
        roundness = 0.35 + 0.3 * np.tanh(wander(rng, t, 0.1, 0.4))
    pose = {name: (getattr(rest, name) + curve).astype(np.float32) for name, curve in own.items()}
    width = 0.5 + 0.12 * np.tanh(wander(rng, t, 0.08, 0.4))
    shape = {"opening": opening, "width": width, "roundness": np.clip(roundness, 0, 1)}
    mouth = Mouth(**{name: curve.astype(np.float32) for name, curve in shape.items()})
    return Pose(**pose), gaze, mouth


def _targets(rng: np.random.Generator, t: Array, mean: float) -> Array:
    """Smooth turns between left, right and the middle, [-1, 1]."""
    longest = float(t[-1]) if len(t) else 0.0
    order, draws = np.random.default_rng(rng.integers(1 << 62)), rng
    times, result, before = events(order, longest, 0.9, mean), np.zeros_like(t), 0.0
    side = 1.0 if draws.random() < 0.5 else -1.0
    for i, time in enumerate(times):
        to = side * (-1) ** i * (0.75 + 0.25 * np.sin(2.4 * i)) if i % 3 else 0.0
        at = np.clip((t - time) / 0.45, 0, 1)
        result += (to - before) * at * at * (3 - 2 * at)
        before = to
    return result


def _eyes(made: Scene, t: Array, looks: Array) -> Expression:
    blink, glance, brow = (np.random.default_rng([made.key, 0xE7E, i]) for i in range(3))
    longest = float(t[-1]) if len(t) else 0.0
    since = t[:, None] - events(blink, longest, 1.0, 2.8)
    shut = np.interp(since, [-0.12, -0.02, 0.06, 0.22], [0, 1, 1, 0]).max(1)
    gaze = np.zeros((len(t), 2))
    times = events(glance, longest, 0.6, 1.9)
    targets = np.random.default_rng([made.key, 0xE7E, 3]).normal(size=(len(times), 2))
    targets = targets * [0.5, 0.25]
    targets[::2] *= 0.25  # every other look goes back to the camera
    for time, step in zip(times, np.diff(targets, axis=0, prepend=0 * targets[:1]), strict=True):
        gaze += np.interp(t, [time - 0.04, time + 0.08], [0, 1])[:, None] * step
    gaze_x = np.tanh(gaze[:, 0] + 1.6 * looks)
    raised = 0.016 * np.tanh(wander(brow, t, 0.1, 0.7))
    values = {"lid": 1 - shut, "gaze_x": gaze_x, "gaze_y": np.tanh(gaze[:, 1]), "brow": raised}
    return Expression(**{name: value.astype(np.float32) for name, value in values.items()})


def _passing(made: Scene, t: Array) -> tuple[Array, Array]:
    """It crosses the picture again and again, to the left or to the right."""
    rng, kind = np.random.default_rng([made.key, 0xBA11]), made.words["passing"]
    period, speed = rng.uniform(5.6, 6.6), {"bird": 0.62, "paper plane": 0.6}.get(kind, 0.52)
    side, height = (1 if rng.random() < 0.5 else -1), rng.uniform(-0.66, -0.3)
    clock = t + rng.uniform(0, period)
    turn, since = np.floor(clock / period), clock % period
    x = side * (since * speed - HIDDEN)
    # Each time at another height.
    y = height + 0.16 * np.sin(2.4 * turn) + 0.03 * np.sin(2 * np.pi * 0.5 * t)
    if kind == "balloon":
        y = y + 0.10 * np.sin(2 * np.pi * 0.3 * t)
    elif kind == "ball":
        y = y + 0.5 - 0.5 * np.abs(np.sin(np.pi * 0.5 * clock))
    elif kind == "bird":
        y = y - 0.1
    elif kind == "paper plane":
        y = y + 0.07 * since - 0.15
    beat = clock * {"bird": 1.2}.get(kind, 0.5) % 1.0
    return np.stack([x, y], 1).astype(np.float32), beat.astype(np.float32)
