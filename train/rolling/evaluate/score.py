"""Scores one stream while it comes: frames are measured in pieces of five seconds and let go.

T frames, 16 per second   S the picture's side
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from train.evaluate.metrics import Array
from train.evaluate.metrics_motion import LATENT, SETTLED, changes, flicker
from train.evaluate.metrics_picture import sharpness
from train.evaluate.run import Score
from train.preset import SCENES
from train.rolling.evaluate.colours import Palette
from train.rolling.evaluate.prompts import Asked
from train.rolling.evaluate.words import Found, held, part, shuffled, words_read
from train.rolling.reader import read, seen
from train.scenes.preview import row
from train.scenes.scene import Words

FPS = SCENES.stream.fps
PIECE_S = 5
PIECE = PIECE_S * FPS
LEAD = LATENT - 1  # a stream's first latent is one frame: as if so many had been before it
APART = 0.160 * FPS  # frames over which motion is measured
STILL = 0.25  # share of the pixels that move least
SMALL = 12  # side of the pictures by which two seeds are compared
NUM_PICTURES = 10
SWITCH_BLOCKS, AFTER_S = 14, 15  # blocks before a change of prompt, seconds after it
SWITCH = SCENES.stream.video_frames(SWITCH_BLOCKS)
WINDOW, EVERY, AGAIN = 16, 4, 4  # frames a change is read from, how often, and how often in turn


class StreamScore:
    """`add` takes the frames of one stream in order, `finish` gives the score."""

    def __init__(
        self,
        asked: Asked,
        reader: nn.Module,
        num_frames: int,
        horizons_s: Sequence[int] = (),
        others: Sequence[Words] = (),
    ) -> None:
        """`others`: what other prompts say."""
        self.asked, self.reader, self.num_frames = asked, reader, num_frames
        self.horizons_s, self.others = horizons_s, others
        self._waiting, self._taken = np.empty((0, 1, 1, 3), np.uint8), 0
        self._pieces: list[dict[str, float]] = []
        self._found: list[Found] = []
        self._pictures: list[Array] = []
        self._small: list[Array] = []
        self._palette: Palette | None = None

    def add(self, frames: Array) -> None:
        """The next uint8 [T, S, S, 3]; what goes beyond `num_frames` is left out."""
        frames = frames[: self.num_frames - self._taken]
        self._taken += len(frames)
        self._waiting = np.concatenate([self._waiting, frames]) if len(self._waiting) else frames
        while len(self._waiting) >= PIECE:
            self._measure(self._waiting[:PIECE])
            self._waiting = self._waiting[PIECE:]

    def finish(self) -> Score:
        """RuntimeError if fewer frames came than were asked for; less than a piece is left out."""
        if self._taken < self.num_frames:
            raise RuntimeError(f"{self._taken} frames came, wanted {self.num_frames}")
        found = {name: torch.cat([each[name] for each in self._found]) for name in self._found[0]}
        shares = {"words": words_read(found, self.asked.words).mean(1),
                  "held": held(found, self.asked.scene.words)}  # fmt: skip
        curves = {f"piece_{name}": self._curve(name) for name in self._pieces[0]}
        curves |= {f"piece_{name}": values for name, values in shares.items()}
        curves["small"] = np.concatenate(self._small)
        return Score(self._figures(found, curves), curves, self._strip())

    def _measure(self, frames: Array) -> None:
        first = len(self._pieces) * PIECE
        self._palette = self._palette or Palette(frames)
        self._found.append(read(self.reader, [frames]))
        piece = motion(frames, first)
        piece["second"] = (first + PIECE) / FPS
        piece["sharpness"] = sharpness(frames[::LATENT], np.ones_like(frames[::LATENT, ..., 0]))
        piece["drift"] = self._palette.drift(frames)
        self._pieces.append(piece)
        self._pictures.append(frames[PIECE // 2])
        self._small.append(small(frames[:: FPS // 2]))

    def _curve(self, name: str) -> Array:
        return np.array([piece[name] for piece in self._pieces], np.float32)

    def _figures(self, found: Found, curves: dict[str, Array]) -> dict[str, float]:
        figures = seen(found, [self.asked.words] * len(self._pieces))
        figures["words_shuffled"] = shuffled(found, self.others)
        means = ("change", "change_step", "change_border", "change_inside", "flicker", "sharpness",
                 "held")  # fmt: skip
        # A piece may have nothing that is still.
        figures |= {name: float(np.nanmean(curves[f"piece_{name}"])) for name in means
                    if np.isfinite(curves[f"piece_{name}"]).any()}  # fmt: skip
        figures["words_start"] = float(curves["piece_words"][0])
        figures["sharpness_start"] = float(curves["piece_sharpness"][0])
        for horizon in self.horizons_s:
            last = horizon // PIECE_S - 1
            if last < len(self._pieces):
                figures |= {f"{name}_{horizon}s": float(curves[f"piece_{name}"][last])
                            for name in ("words", "sharpness", "drift", "held")}  # fmt: skip
        return figures

    def _strip(self) -> Array:
        last = len(self._pictures) - 1
        chosen = np.linspace(0, last, NUM_PICTURES).round().astype(int)
        return row([self._pictures[i] for i in chosen], self.asked.prompt)


class SwitchScore:
    """The same for a stream whose prompt changes after `SWITCH` frames: short, and held whole."""

    def __init__(self, asked: Asked, reader: nn.Module) -> None:
        self.asked, self.reader = asked, reader
        self.num_frames = SWITCH + AFTER_S * FPS
        self._frames: list[Array] = []

    def add(self, frames: Array) -> None:
        self._frames.append(frames)

    def finish(self) -> Score:
        frames = np.concatenate(self._frames)[: self.num_frames]
        if len(frames) < self.num_frames:
            raise RuntimeError(f"{len(frames)} frames came, wanted {self.num_frames}")
        ends = range(SWITCH, self.num_frames + 1, EVERY)
        windows = read(self.reader, [frames[end - WINDOW : end] for end in ends])
        new = words_read(windows, self.asked.new_words)
        whole = read(self.reader, [frames[SWITCH - PIECE : SWITCH], frames[-PIECE:]])
        before, after = (words_read(part(whole, slice(i, i + 1)), self.asked.kept_words)[0]
                         for i in range(2))  # fmt: skip
        figures = {
            "switch_s": seconds_until(new.all(1)),
            "switched": float(words_read(part(whole, slice(1, 2)), self.asked.new_words).mean()),
            "kept": float(after[before].mean()) if before.any() else float("nan"),
        }
        seconds = (np.array(ends) - SWITCH) / FPS
        places = np.linspace(SWITCH - 2 * FPS, self.num_frames - 1, NUM_PICTURES).astype(int)
        title = " / ".join(f"{n}: {v}" for n, v in self.asked.new_words.items())
        strip = row([frames[i] for i in places], f"-> {title}   ({self.asked.prompt})")
        return Score(figures, {"switch_second": seconds, "switch_words": new.mean(1)}, strip)


def seconds_until(is_read: Array) -> float:
    """From the change to the last frame of the first window in which all new words are read, and
    still are a second later. bool [windows], the first of which ends at the change: nan if the
    words were there already, all of the time if they never come."""
    if is_read[0]:
        return float("nan")
    steady = np.lib.stride_tricks.sliding_window_view(is_read, AGAIN + 1).all(1)
    return EVERY * int(steady.argmax()) / FPS if steady.any() else float(AFTER_S)


def motion(frames: Array, first: int) -> dict[str, float]:
    """How uint8 [T, S, S, 3], of which frames[0] is number `first` of its stream, change: mean
    absolute differences in grey levels."""
    steps, two, three = (changes(frames, apart) for apart in (1, 2, 3))
    places = first + LEAD + 1 + np.arange(len(steps))
    border, settled = places % LATENT == 0, places >= SETTLED + LATENT
    latents = frames[: len(frames) // LATENT * LATENT].reshape(-1, LATENT, *frames.shape[1:])
    moves = latents.mean(1, dtype=np.float32).std(0).mean(-1)
    return {
        # Between whole numbers of frames it is interpolated.
        "change": float((3 - APART) * two.mean() + (APART - 2) * three.mean()),
        "change_step": float(steps.mean()),
        "change_border": float(steps[border & settled].mean()),
        "change_inside": float(steps[~border & settled].mean()),
        "flicker": flicker(frames, first + LEAD, moves <= np.quantile(moves, STILL)),
    }


def small(frames: Array) -> Array:
    """uint8 [T, SMALL, SMALL, 3], squares averaged."""
    scale = frames.shape[1] // SMALL
    squares = frames.reshape(len(frames), SMALL, scale, SMALL, scale, 3)
    return squares.mean((2, 4)).round().astype(np.uint8)


def diversity(runs: Sequence[dict[str, Array]]) -> dict[str, float]:
    """How far apart a prompt's seeds are at equal times, grey levels of small pictures."""
    each = [run["small"].astype(np.int16) for run in runs]
    one, other = np.triu_indices(len(each), 1)
    apart = [np.abs(each[a] - each[b]).mean() for a, b in zip(one, other, strict=True)]
    return {"diversity": float(np.mean(apart))}
