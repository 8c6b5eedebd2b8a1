"""Scores one stream while it comes: its frames are measured in pieces of five seconds and let go.

T frames   S the picture's side
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from train.evaluate.metrics_motion import ChangeMeter, flicker, lag_curve, mouth_scores
from train.evaluate.metrics_picture import (
    COLOURED,
    colour_errors,
    drawing,
    likeness,
    sharpness,
)
from train.world.clips import Take
from train.world.measure import find_pose, read_mood, read_mouth
from train.world.motion import FPS, Mouth, Pose, part

Array = np.ndarray

PIECE_S = 5
PIECE = PIECE_S * FPS  # frames measured together: the first and the last of them show drift
POSE_EVERY = 5  # a pose in between is interpolated; odd: each phase of a latent has its turn
COLOUR_EVERY = 3  # of the frames whose pose is estimated
HORIZONS_S = (60, 120, 600)
TRUE_FRAMES = 500  # drawn to learn how much the truth moves
NUM_PICTURES = 10


@dataclass(frozen=True, slots=True)
class Score:
    """What one run amounts to."""

    figures: dict[str, float]
    curves: dict[str, Array]  # for plots, and for what is compared between runs
    pictures: Array  # uint8 [2 S, n S, 3]: as it should look above, as it looks below


class RunScore:
    """`add` takes the frames of one take in order, `finish` gives the score."""

    def __init__(
        self, take: Take, others: Sequence[Take], seed: int = 0, piece_every: int = 1
    ) -> None:
        """`others`: takes of other characters and sounds, to compare with. Of long runs only the
        first piece and every `piece_every`-th is measured."""
        self.take, self.seed, self.piece_every = take, seed, piece_every
        self.others = [o for o in others if o is not take]
        self.change = ChangeMeter()
        self._waiting, self._piece = np.empty((0, take.size, take.size, 3), np.uint8), 0
        self._readings: list[dict[str, Array]] = []
        self._pieces: list[dict[str, float]] = []
        self._pictures: list[tuple[Array, Array]] = []

    def add(self, frames: Array) -> None:
        """The next uint8 [T, S, S, 3]; what goes beyond the take is left out."""
        frames = frames[: self.take.num_frames - self.change.at]
        if not len(frames):
            return
        self.change.add(frames)
        self._waiting = np.concatenate([self._waiting, frames])
        while len(self._waiting) >= PIECE:
            self._take_piece(self._waiting[:PIECE])
            self._waiting = self._waiting[PIECE:]

    def finish(self) -> Score:
        """Measure what is left and sum up. RuntimeError if fewer frames came than were asked for"""
        if self.change.at < self.take.num_frames:
            raise RuntimeError(f"{self.change.at} frames came, the take has {self.take.num_frames}")
        if len(self._waiting) >= FPS:
            self._take_piece(self._waiting)
        return Score(self._figures(), self._curves(), self._strip())

    def _take_piece(self, frames: Array) -> None:
        number, self._piece = self._piece, self._piece + 1
        if number == 0 or (number + 1) % self.piece_every == 0:
            self._measure(frames, number * PIECE)

    def _measure(self, frames: Array, first: int) -> None:
        who, mood = self.take.identity, self.take.mood
        at = np.arange(POSE_EVERY // 2, len(frames), POSE_EVERY)
        sparse = find_pose(frames[at], who, mood)
        places = np.arange(len(frames))
        pose = Pose(**{
            f.name: np.interp(places, at, getattr(sparse, f.name)).astype(np.float32)
            for f in fields(Pose)
        })  # fmt: skip
        mouth = read_mouth(frames, who, mood, pose).mouth
        self._readings.append(
            {"at": first + places, "opening": mouth.opening, "width": mouth.width,
             "pose_at": first + at}
            | {f"pose_{f.name}": getattr(sparse, f.name) for f in fields(Pose)}
        )  # fmt: skip
        chosen = at[::COLOUR_EVERY]
        self._compare(frames, first, chosen, part(pose, chosen), part(mouth, chosen))

    def _compare(self, frames: Array, first: int, chosen: Array, pose: Pose, mouth: Mouth) -> None:
        who, mood, size = self.take.identity, self.take.mood, self.take.size
        seen, drawn = frames[chosen], drawing(who, mood, pose, mouth, size)
        still = ((drawn.regions == 0).mean(0) == 1) & ~_near(drawn.regions != 0)
        piece = {f"colour_{name}": error for name, error in colour_errors(seen, drawn).items()}
        piece["second"] = (first + len(frames)) / FPS
        piece["flicker"] = flicker(frames, first, still)
        piece["sharpness"] = sharpness(seen, drawn.regions)
        piece["sharpness_true"] = sharpness(drawn.frames, drawn.regions)
        if self.take.told:
            piece["mood"] = float(read_mood(seen, who) == mood)
        middle = len(chosen) // 2
        one = slice(middle, middle + 1)
        if self.others:
            shape = (mood, part(pose, one), part(mouth, one), size)
            views = [drawing(other.identity, *shape) for other in self.others]
            own = part(drawn, one)
            rank, piece["margin"] = likeness(seen[middle].astype(np.float32), own, views)
            piece["is_itself"] = float(rank == 1)
        self._pieces.append(piece)
        self._pictures.append((drawn.frames[middle].astype(np.uint8), seen[middle]))

    def _figures(self) -> dict[str, float]:
        reading = self._reading()
        true = {"opening": self.take.mouth.opening, "width": self.take.mouth.width}
        others = [o.mouth.opening for o in self.others]
        figures = mouth_scores(reading, true, reading["at"], others)
        figures |= self.change.figures() | true_motion(self.take, self.seed)
        figures["head_motion"] = head_motion_of(reading["pose_x"], reading["pose_y"])
        # A short clip may never show its hair, or a still background: then nan.
        for name in sorted({name for piece in self._pieces for name in piece} - {"second"}):
            values = [p[name] for p in self._pieces if np.isfinite(p.get(name, np.nan))]
            figures[name] = float(np.mean(values)) if values else float("nan")
        for horizon in (*HORIZONS_S, self._pieces[-1]["second"]):
            ends = [p for p in self._pieces if p["second"] == horizon]
            if ends:
                label = f"{horizon:g}s" if horizon in HORIZONS_S else "end"
                figures |= self._drift(ends[0], label)
        return figures

    def _drift(self, piece: dict[str, float], label: str) -> dict[str, float]:
        first = self._pieces[0]
        result = {f"colour_{name}_{label}": piece[f"colour_{name}"] for name in COLOURED}
        worse = [piece[f"colour_{name}"] - first[f"colour_{name}"] for name in COLOURED]
        result[f"drift_{label}"] = float(np.nanmax(worse))
        if "margin" in piece:
            result[f"margin_{label}"] = piece["margin"]
        return result

    def _reading(self) -> dict[str, Array]:
        names = self._readings[0]
        return {name: np.concatenate([r[name] for r in self._readings]) for name in names}

    def _curves(self) -> dict[str, Array]:
        reading = self._reading()
        kept = ("at", "opening", "pose_at", "pose_x", "pose_y", "pose_tilt")
        curves = {name: reading[name] for name in kept}
        curves["lags"] = lag_curve(reading["opening"], self.take.mouth.opening, reading["at"])
        curves["true_opening"] = self.take.mouth.opening
        pose = self.take.motion(self.seed)[0]
        for name in ("x", "y"):
            curves[f"true_pose_{name}"] = getattr(pose, name)[reading["pose_at"]]
        for name in ("second", "margin", *(f"colour_{name}" for name in COLOURED)):
            values = [p.get(name, np.nan) for p in self._pieces]
            curves[f"piece_{name}"] = np.array(values, np.float32)
        return curves

    def _strip(self) -> Array:
        last = len(self._pictures) - 1
        chosen = np.linspace(0, last, min(NUM_PICTURES, last + 1)).round().astype(int)
        return np.concatenate([np.concatenate(self._pictures[i]) for i in chosen], 1)


def _near(mask: Array) -> Array:
    """bool [S, S]: within two pixels of a mask [T, S, S] in any frame."""
    grown = np.pad(mask.any(0), 2)
    return np.lib.stride_tricks.sliding_window_view(grown, (5, 5)).any((2, 3))


def head_motion_of(x: Array, y: Array) -> float:
    """How far a head strays from its mean place, picture units."""
    return float(np.hypot(x.std(), y.std()))


def diversity(runs: Sequence[dict[str, Array]]) -> dict[str, float]:
    """How far apart the heads of one face's seeds are, picture units, and those of the truth.
    `runs`: curves of a `Score` each, of equal length."""
    result = {}
    for name, prefix in (("diversity", "pose"), ("diversity_true", "true_pose")):
        x, y = (np.stack([run[f"{prefix}_{axis}"] for run in runs]) for axis in "xy")
        one, other = np.triu_indices(len(runs), 1)
        result[name] = float(np.hypot(x[one] - x[other], y[one] - y[other]).mean())
    return result


@lru_cache(maxsize=256)
def true_motion(take: Take, seed: int) -> dict[str, float]:
    """How much the truth changes and moves, for ratios."""
    motion, meter = take.motion(seed), ChangeMeter()
    count = min(TRUE_FRAMES, take.num_frames)
    for start in range(0, count, PIECE):
        meter.add(take.draw(slice(start, min(start + PIECE, count)), motion))
    changes, pose = meter.figures(), motion[0]
    return {
        "change_true": changes["change"],
        "change_slow_true": changes["change_slow"],
        "head_motion_true": head_motion_of(pose.x, pose.y),
    }
