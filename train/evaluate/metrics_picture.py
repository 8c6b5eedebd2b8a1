"""Colours, sharpness and identity of frames against drawings in the same pose.

Generated video is compared with the character drawn in the pose and with the mouth that were read
from it. What could not be read (eyes, brows) is left out, and so is a rim around every region;
differences are averaged over small squares, so that texture and edges a fraction of a pixel off
count little and colours count in full.

T frames   S the picture's side
"""

from dataclasses import dataclass

import numpy as np

from train.world.identity import Identity
from train.world.motion import Mouth, Pose, still_expression
from train.world.render import REGIONS, render

Array = np.ndarray

COLOURED = ("background", "clothes", "skin", "hair")
RIM = 1 / 64  # of the picture's side: what is left out along a region's border
SQUARE = 2 / 64  # of the picture's side: half the side of the squares of averaged differences
FEWEST = 3e-3  # share of the picture below which a region is not judged
HIDDEN = 3  # grey levels by which a blink or a raised brow changes what is left out


@dataclass(frozen=True, slots=True)
class Drawing:
    """The character as it should look in each frame."""

    frames: Array  # float32 [T, S, S, 3]
    regions: Array  # uint8 [T, S, S]
    known: Array  # bool [T, S, S]: what does not depend on eyes and brows


def drawing(who: Identity, mood: str, pose: Pose, mouth: Mouth, size: int) -> Drawing:
    num = len(pose.x)
    open_eyes, shut = still_expression(num), still_expression(num)
    raised = np.full(num, 0.04, np.float32)
    shut = type(shut)(lid=shut.lid * 0, gaze_x=shut.gaze_x, gaze_y=shut.gaze_y, brow=raised)
    one, other = (render(who, pose, e, mouth, mood, size) for e in (open_eyes, shut))
    moved = np.abs(one.frames.astype(int) - other.frames).max(-1) > HIDDEN
    return Drawing(one.frames.astype(np.float32), one.regions, ~moved & (one.regions != _EYES))


_EYES = REGIONS.index("eyes")


def box_sum(values: Array, half: int) -> Array:
    """Sum over squares of side 2 half + 1 of [T, S, S, ...]; nothing lies beyond the edges."""
    for axis in (1, 2):
        pad = [(0, 0)] * values.ndim
        pad[axis] = (half + 1, half)
        total = np.cumsum(np.pad(values, pad), axis=axis, dtype=np.float64)
        length, side = values.shape[axis], 2 * half + 1
        after, before = (np.arange(length) + offset for offset in (side, 0))
        values = np.take(total, after, axis) - np.take(total, before, axis)
    return values


def shrunk(mask: Array, rim: int) -> Array:
    """bool [T, S, S] without its border; the picture's edge is none."""
    return box_sum((~mask).astype(np.float32), rim) < 0.5


def colour_errors(frames: Array, drawn: Drawing) -> dict[str, float]:
    """Mean absolute colour difference of each region, grey levels: the median over the frames.
    `frames` uint8 [T, S, S, 3]; a region that hardly shows is nan."""
    size = frames.shape[1]
    rim, half = max(1, round(RIM * size)), max(1, round(SQUARE * size))
    difference = frames.astype(np.float32) - drawn.frames
    errors = {}
    for name in COLOURED:
        inside = shrunk((drawn.regions == REGIONS.index(name)) & drawn.known, rim)
        counts = box_sum(inside.astype(np.float32), half)
        local = box_sum(difference * inside[..., None], half) / np.maximum(counts, 1)[..., None]
        error, shows = np.abs(local).mean(-1), inside.mean((1, 2)) >= FEWEST
        values = [error[t][inside[t]].mean() for t in np.flatnonzero(shows)]
        errors[name] = float(np.median(values)) if values else float("nan")
    return errors


def sharpness(frames: Array, regions: Array) -> float:
    """Mean absolute Laplacian of what is not background, grey levels."""
    grey = frames.astype(np.float32).mean(-1)
    middle = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return float(np.abs(around - 4 * middle)[regions[:, 1:-1, 1:-1] != 0].mean())


def likeness(frame: Array, own: Drawing, others: list[Drawing]) -> tuple[float, float]:
    """Whether a frame looks like its own character rather than like another one. Distances are mean
    colour differences over the two heads. Returns the rank of the own character among all (1 is
    first) and the margin, 1 - own distance / nearest other distance."""
    mine = _distance(frame, own, own)
    rest = [_distance(frame, other, own) for other in others]
    return 1.0 + sum(d <= mine for d in rest), 1 - mine / max(min(rest), 1e-6)


def _distance(frame: Array, drawn: Drawing, own: Drawing) -> float:
    half = max(1, round(SQUARE * frame.shape[0] / 2))
    body = [REGIONS.index(name) for name in ("background", "clothes")]
    head = ~np.isin(drawn.regions[0], body) | ~np.isin(own.regions[0], body)
    seen = head & own.known[0]
    difference = box_sum((frame - drawn.frames[0])[None], half)[0] / (2 * half + 1) ** 2
    return float(np.abs(difference).mean(-1)[seen].mean())
